from pathlib import Path

import cv2
import numpy as np
import pytest


class Folder:
    """Writes a small data set of photographs-like noise and index masks under `root`/train."""

    def __init__(self, root: Path):
        self.root = root
        self.images = root / "train" / "images"
        self.masks = root / "train" / "masks"
        self.images.mkdir(parents=True)
        self.masks.mkdir()

    def add(self, name: str, size: tuple[int, int] = (40, 60), label: int = 1, suffix: str = ".jpg") -> None:
        rng = np.random.default_rng(len(name) + sum(name.encode()))
        smooth = cv2.resize(rng.integers(0, 256, (5, 5, 3)).astype(np.uint8), size[::-1])
        assert cv2.imwrite(str(self.images / f"{name}{suffix}"), smooth)
        mask = np.zeros(size, np.uint8)
        mask[5:20, 10:30] = label
        assert cv2.imwrite(str(self.masks / f"{name}.png"), mask)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "data")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The page to write."""
    parser.addoption("--sample-types", metavar="PATH", help="write what samples become to the tables of this page")
