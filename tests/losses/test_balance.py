"""Class weights from pixel counts, against scikit-learn and against the papers' formulas pixel by pixel."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from segzoo.errors import UnknownNameError
from segzoo.losses import class_weights
from segzoo.losses.balance import SCHEMES

IGNORE = 9
MASKS = np.array([[[0, 0, 0, 1], [0, 0, 9, 1]], [[0, 0, 0, 0], [0, 0, 0, 2]], [[0, 1, 1, 1], [9, 9, 2, 0]]])
PIXELS = [int((label == MASKS).sum()) for label in range(3)]
SHOWN_IN = [sum(int((mask != IGNORE).sum()) for mask in MASKS if (mask == label).any()) for label in range(3)]


def test_balanced_is_that_of_scikit_learn():
    labels = MASKS[MASKS != IGNORE]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights("balanced", PIXELS), expected)


def test_median_frequency_counts_only_the_images_that_show_the_class():
    # 14, 5 and 2 pixels; shown in images of 7 + 8 + 6, 7 + 6 and 8 + 6 labelled pixels.
    frequencies = np.array([14 / 21, 5 / 13, 2 / 14])
    np.testing.assert_allclose(class_weights("median_frequency", PIXELS, SHOWN_IN), (5 / 13) / frequencies)


def test_effective_number_is_the_geometric_series():
    beta = 1 - 3 / 21
    effective = [sum(beta**k for k in range(count)) for count in PIXELS]
    expected = np.array([1 / number for number in effective])
    np.testing.assert_allclose(class_weights("effective_number", PIXELS), expected / expected.mean())


def test_effective_number_is_finite_for_billions_of_pixels():
    weights = class_weights("effective_number", [10**11, 10**9, 100])
    assert np.isfinite(weights).all() and weights[0] < weights[1] < weights[2]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_absent_class_weighs_nothing_and_changes_no_other(scheme):
    without = class_weights(scheme, PIXELS, SHOWN_IN)
    assert class_weights(scheme, [*PIXELS, 0], [*SHOWN_IN, 0]) == [*without, 0.0]


def test_what_it_refuses():
    with pytest.raises(UnknownNameError, match="median_frequency"):
        class_weights("median_frequncy", PIXELS, SHOWN_IN)
    with pytest.raises(ValueError, match="some must be there"):
        class_weights("balanced", [0, 0])
    with pytest.raises(ValueError, match="needs shown_in"):
        class_weights("median_frequency", PIXELS)
    with pytest.raises(ValueError, match="needs shown_in"):
        class_weights("median_frequency", PIXELS, [1, 1, 1])
