import cv2
import numpy as np
import pytest

from segzoo.cli import main
from segzoo.config import load_config
from segzoo.engine.preview import preview
from segzoo.errors import DataError


def test_preview_draws_a_row_for_each_sample(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    changes = ["data.size=[64, 64]", "data.train_count=5", "data.crop={size: [32, 48], strategy: foreground}"]
    arguments = ["preview", "unet_b0.yaml", "--count", "2", "--variants", "3"]
    try:
        main([*arguments, *(part for change in changes for part in ("--set", change))])
    except SystemExit as end:
        assert not end.code
    sheet = cv2.imread("preview.png")
    assert sheet.shape[1] == 4 * 308 + 8
    assert sheet.shape[0] > 2 * 300
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 1000
    assert "preview.png" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "variants"), [(5, 10**9), (5, 200), (10**12, 10**6)])
def test_a_sheet_too_large_to_draw_is_refused(count, variants, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config("unet_b0.yaml", ["data.size=[64, 64]", "data.train_count=5"])
    with pytest.raises(DataError, match=rf"5 samples.* {5 * (1 + variants):,} pictures, and at most 1,000"):
        preview(config, tmp_path / "a.png", count, variants)
    assert not (tmp_path / "a.png").exists()
