import cv2
import numpy as np

from segzoo.cli import main


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
