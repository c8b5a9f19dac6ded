"""Examples of the page: pictures of the validation split as the model reads them, or the reason why there are none."""

import numpy as np
import pytest
from PIL import Image

from segzoo.errors import SegzooError
from segzoo.workflows.examples import write_examples
from segzoo.workflows.sources import open_models

pytestmark = pytest.mark.usefixtures("small_network", "no_trial")


def test_examples_are_validation_pictures_spread_over_the_split(tiny_run, tmp_path):
    from segzoo.engine import builders

    (run,) = open_models(tiny_run, overrides=["data.val_count=30"])
    source = builders.build_source(run.run.config, "val")
    found = write_examples(run, tmp_path, 10**6)
    assert [path.name for path in found] == [f"{number}.png" for number in range(1, 7)]
    for path, place in zip(found, (0, 6, 12, 17, 23, 29), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), source[place].image)


def test_where_there_is_none_the_reason_is_told(tiny_run, tmp_path):
    (run,) = open_models(tiny_run)
    with pytest.raises(SegzooError, match="none of the run's validation pictures is one of 8 bits"):
        write_examples(run, tmp_path, 1000)
    folder = ["data={source: folder, root: nowhere, classes: [sky, road, café, tree, car, sun]}"]
    (moved,) = open_models(tiny_run, overrides=folder)
    with pytest.raises(SegzooError, match=r"No examples, as the run's validation pictures are not there: .*nowhere"):
        write_examples(moved, tmp_path, 10**6)
    (file,) = open_models(tiny_run / "model.keras")
    with pytest.raises(SegzooError, match=r"No examples: .*model\.keras is a model file, which has no validation"):
        write_examples(file, tmp_path, 10**6)
    assert not list(tmp_path.iterdir())
