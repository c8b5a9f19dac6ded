"""Configurations of `init` pass `check-data` and read every pixel as it was meant, over kinds of masks x layouts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.cli import main
from segzoo.config import load_config
from segzoo.reporting import data_quality

SIZE = (40, 48)
IGNORED = -1


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let check-data draw no report, which takes longer than the rest and is read in tests/test_cli.py."""
    monkeypatch.setattr(data_quality.DataReport, "write", lambda self, folder: folder)


def truth(index: int, classes: int, ignored: bool) -> np.ndarray:
    """Labels of sample `index`, (H, W): blocks of every class on 0, and some ignored pixels."""
    mask = np.zeros(SIZE, np.int64)
    for label in range(1, classes):
        top, left = (7 * label + index) % 34, (11 * label + 3 * index) % 40
        mask[top : top + 6, left : left + 8] = label
    if ignored:
        mask[0, 5 + index : 9 + index] = IGNORED
    return mask


def valued(
    values: tuple[int, ...], void: int | None = None, dtype: type = np.uint8
) -> Callable[[np.ndarray], np.ndarray]:
    """Write labels as these values, and ignored pixels as `void`."""

    def write(mask: np.ndarray) -> np.ndarray:
        return np.array([*values, 0 if void is None else void], dtype)[mask]

    return write


def save_picture(mode: str | None = None, palette: list[int] | None = None, bits: int = 8) -> Callable:
    def save(array: np.ndarray, path: Path) -> None:
        picture = Image.fromarray(array)
        if palette is not None:
            picture.putpalette(palette)
        elif mode == "1":
            picture = Image.fromarray(array.astype(bool))
        elif mode is not None:
            picture = picture.convert(mode)
        options = {"bits": bits} if bits != 8 else {}
        picture.save(path, **options)

    return save


def coloured(colors: list[tuple[int, int, int]]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda mask: np.array(colors, np.uint8)[mask]


def reduced(array: np.ndarray, path: Path) -> None:
    """Save colours as optimisers do: a palette of the file's own, in another order in each file."""
    colors = np.unique(array.reshape(-1, 3), axis=0)
    colors = np.roll(colors, int(path.stem[1]), axis=0)
    indices = (array[:, :, None] == colors).all(-1).argmax(-1).astype(np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(colors.ravel().tolist())
    picture.save(path)


VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128] + [9] * (249 * 3) + [224, 224, 192]
FOUR = [(0, 0, 0), (10, 200, 30), (128, 64, 0), (250, 0, 5)]
GREYS = [(0, 0, 0), (1, 1, 1), (2, 2, 2)]


def npy(array: np.ndarray, path: Path) -> None:
    np.save(path, array)


def npz(array: np.ndarray, path: Path) -> None:
    np.savez_compressed(path, array)


# name: (classes, ignored pixels, labels -> array, array -> file, endings)
PICTURES = (".png", ".PNG", ".tif", ".bmp")
KINDS: dict[str, tuple[int, bool, Callable, Callable, tuple[str, ...]]] = {
    "0 1": (2, False, valued((0, 1)), save_picture(), PICTURES),
    "0 1 2": (3, False, valued((0, 1, 2)), save_picture(), PICTURES),
    "0..5 255": (6, True, valued(tuple(range(6)), 255), save_picture(), PICTURES),
    "0 1 255": (2, True, valued((0, 1), 255), save_picture(), (".png", ".tiff")),
    "0 255": (2, False, valued((0, 255)), save_picture(), (*PICTURES, ".gif")),
    "0 128 255": (3, False, valued((0, 128, 255)), save_picture(), PICTURES),
    "0 127 255": (3, False, valued((0, 127, 255)), save_picture(), (".png",)),
    "0 85 170 255": (4, False, valued((0, 85, 170, 255)), save_picture(), (".png", ".tif")),
    "0 15 255": (2, True, valued((0, 15), 255), save_picture(), PICTURES),
    "7 11 23": (3, False, valued((7, 11, 23)), save_picture(), (".png", ".bmp")),
    "7 11 23 255": (3, True, valued((7, 11, 23), 255), save_picture(), (".png", ".TIF")),
    "16 bit 0 1 2": (3, False, valued((0, 1, 2), None, np.uint16), save_picture(), (".png", ".tif")),
    "16 bit gaps": (3, False, valued((0, 1000, 40000), None, np.uint16), save_picture(), (".png", ".tif")),
    "16 bit white": (2, False, valued((0, 65535), None, np.uint16), save_picture(), (".png", ".tif")),
    "16 bit 65535": (3, True, valued((0, 1, 2), 65535, np.uint16), save_picture(), (".png", ".tif")),
    "1 bit": (2, False, valued((0, 1)), save_picture("1"), (".png", ".tif")),
    "4 bit palette": (4, False, valued((0, 1, 2, 3)), save_picture(palette=VOC[:48], bits=4), (".png",)),
    "palette": (4, False, valued((0, 1, 2, 3)), save_picture(palette=VOC), (".png", ".tif", ".bmp")),
    "palette 255": (3, True, valued((0, 1, 2), 255), save_picture(palette=VOC), (".png", ".tif", ".bmp")),
    "palette without colours": (3, False, valued((0, 1, 2)), save_picture(palette=[0] * 768), (".png",)),
    "grey palette": (2, False, valued((0, 255)), save_picture("P"), (".png",)),
    "palettes of files": (4, False, coloured(FOUR), reduced, (".png",)),
    "colours": (4, False, coloured(FOUR), save_picture(), PICTURES),
    "RGBA colours": (4, False, coloured(FOUR), save_picture("RGBA"), (".png",)),
    "grey in three channels": (3, False, coloured(GREYS), save_picture(), (".png", ".bmp")),
    "white in three channels": (2, False, coloured([(0, 0, 0), (255, 255, 255)]), save_picture(), PICTURES),
    "grey with alpha": (2, False, valued((0, 255)), save_picture("LA"), (".png",)),
    "arrays": (3, False, valued((0, 1, 2)), npy, (".npy",)),
    "arrays 255": (3, True, valued((0, 1, 2), 255), npy, (".npy",)),
    "arrays int64": (3, False, valued((0, 1, 2), None, np.int64), npy, (".npy",)),
    "arrays float": (3, False, valued((0, 1, 2), None, np.float32), npy, (".npy",)),
    "arrays bool": (2, False, valued((0, 1), None, bool), npy, (".npy",)),
    "archives": (3, False, valued((0, 1, 2)), npz, (".npz",)),
}  # fmt: skip


def flat(root: Path, index: int) -> tuple[Path, Path]:
    return root / "photos" / f"a{index}", root / "labels" / f"a{index}"


def together(root: Path, index: int) -> tuple[Path, Path]:
    return root / "all" / f"a{index}", root / "all" / f"a{index}_mask"


def split_inside(root: Path, index: int) -> tuple[Path, Path]:
    part = "train" if index < 5 else "valid"
    return root / "photos" / part / f"a{index}", root / "labels" / part / f"a{index}"


def split_outside(root: Path, index: int) -> tuple[Path, Path]:
    part = "train" if index < 5 else "val"
    return root / part / "images" / f"a{index}", root / part / "masks" / f"a{index}"


LAYOUTS = {
    flat: ("photos", "labels"),
    together: ("all", "all"),
    split_inside: ("photos", "labels"),
    split_outside: ("train/images", "train/masks"),
}
CASES = [
    # every kind and ending flat, and every kind in one other layout, one after the other
    *((kind, ending, flat) for kind, (*_, endings) in KINDS.items() for ending in endings),
    *(
        (kind, endings[0], layout if layout is not flat else together)
        for (kind, (*_, endings)), layout in zip(KINDS.items(), itertools.cycle(LAYOUTS), strict=False)
    ),
]


def image(index: int, channels: int = 3) -> np.ndarray:
    noise = np.random.default_rng(index).integers(0, 256, (5, 6, channels), dtype=np.uint8)
    return noise.repeat(8, 0).repeat(8, 1)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


def read_back(config_path: str, count: int) -> dict[str, np.ndarray]:
    """Labels of every sample as the configuration reads them; ignored pixels are -1."""
    from segzoo.engine import builders

    config = load_config(config_path)
    found = {}
    for part in ("train", "val"):
        source = builders.whole_source(config, part)
        for n in range(len(source)):
            mask = source[n].mask.astype(np.int64)
            found[source.ids[n]] = np.where(mask == config.data.ignore_index, IGNORED, mask)
    assert len(found) == count
    return found


def cases() -> list:
    """All cases; by default each kind once, each layout in turn, and two kinds with all their endings."""
    default = {
        (kind, endings[0]): layout
        for (kind, (*_, endings)), layout in zip(KINDS.items(), itertools.cycle(LAYOUTS), strict=False)
    }
    every = ("0 1 2", "palette 255")
    return [
        pytest.param(
            *case,
            id="-".join((case[0], case[1], case[2].__name__)),
            marks=()
            if default.get(case[:2]) is case[2] or (case[0] in every and case[2] is flat)
            else pytest.mark.nightly,
        )
        for case in CASES
    ]


@pytest.mark.parametrize(("kind", "ending", "layout"), cases())
def test_every_kind_of_masks(kind, ending, layout, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    classes, ignored, write, save, _ = KINDS[kind]
    for index in range(7):
        photo, mask = layout(tmp_path, index)
        photo.parent.mkdir(parents=True, exist_ok=True), mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image(index)).save(photo.with_suffix(".jpg"))
        save(write(truth(index, classes, ignored)), mask.parent / (mask.name + ending))
    assert run("init", *LAYOUTS[layout], "--out", "mine.yaml") == 0, capsys.readouterr().err
    assert run("check-data", "mine.yaml") == 0, capsys.readouterr().out
    for name, labels in read_back("mine.yaml", 7).items():
        np.testing.assert_array_equal(labels, truth(int(name[1]), classes, ignored), err_msg=name)


def test_there_are_at_least_sixty_combinations():
    assert len(CASES) >= 60


@pytest.mark.parametrize(
    "ending",
    [
        ".jpg",
        "mixed",
        *(pytest.param(ending, marks=pytest.mark.nightly) for ending in (".png", ".PNG", ".tif", ".bmp")),
    ],
)
@pytest.mark.parametrize("overlap", [False, True])
def test_a_folder_for_each_class(ending, overlap, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    expected = {}
    for index in range(6):
        labels = truth(index, 3, False)
        Image.fromarray(image(index)).save(tmp_path / "photos" / f"a{index}.png")
        layers = [labels == 1, labels == 2]
        if overlap:
            layers[1] = layers[1] | (labels == 1)
        for name, layer in zip(("cat", "dog"), layers, strict=True):
            own = (".png", ".TIF")[index % 2] if ending == "mixed" else ending
            (tmp_path / "masks" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(layer.astype(np.uint8) * 255).save(tmp_path / "masks" / name / f"a{index}{own}")
        expected[f"a{index}"] = np.stack(layers, -1).astype(int) if overlap else labels
    threshold = ["--threshold", "128"] if ending == ".jpg" else []
    assert run("init", "photos", "masks", "--out", "mine.yaml", *threshold) == 0, capsys.readouterr().err
    assert run("check-data", "mine.yaml") == 0, capsys.readouterr().out
    config = load_config("mine.yaml")
    assert config.data.classes == (["cat", "dog"] if overlap else ["background", "cat", "dog"])
    assert config.mode == ("multilabel" if overlap else "multiclass")
    for name, labels in read_back("mine.yaml", 6).items():
        # JPEG moves the outlines by some pixels
        assert (labels != expected[name]).mean() <= (0.03 if ending == ".jpg" else 0), name


def test_a_class_drawn_as_background_leaves_the_rest_unlabelled(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for index in range(6):
        labels = truth(index, 3, True)
        Image.fromarray(image(index)).save(tmp_path / "photos" / f"a{index}.png")
        for label, name in enumerate(("background", "cat", "dog")):
            (tmp_path / "masks" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray((labels == label).astype(np.uint8) * 255).save(tmp_path / f"masks/{name}/a{index}.png")
    assert run("init", "photos", "masks", "--out", "mine.yaml") == 0, capsys.readouterr().err
    assert run("check-data", "mine.yaml") == 0, capsys.readouterr().out
    for name, labels in read_back("mine.yaml", 6).items():
        np.testing.assert_array_equal(labels, truth(int(name[1]), 3, True))


@pytest.mark.parametrize(
    "ending", [".png", *(pytest.param(ending, marks=pytest.mark.nightly) for ending in (".tif", ".bmp"))]
)
def test_a_file_for_each_object(ending, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for index in range(6):
        labels = truth(index, 3, False)
        Image.fromarray(image(index)).save(tmp_path / "photos" / f"a{index}.png")
        (tmp_path / "masks" / f"a{index}").mkdir(parents=True)
        for label in (1, 2):
            layer = (labels == label).astype(np.uint8) * 255
            Image.fromarray(layer).save(tmp_path / "masks" / f"a{index}" / f"{label}{ending}")
    assert run("init", "photos", "masks", "--out", "mine.yaml") == 0, capsys.readouterr().err
    assert run("check-data", "mine.yaml") == 0, capsys.readouterr().out
    for name, labels in read_back("mine.yaml", 6).items():
        np.testing.assert_array_equal(labels, truth(int(name[1]), 3, False) > 0)


@pytest.mark.parametrize("split", [False, True])
def test_roboflows_group_is_no_class_and_its_split_folders_are_used(split, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pycocotools")
    monkeypatch.chdir(tmp_path)
    categories = [
        {"id": 0, "name": "fish-dataset", "supercategory": "none"},
        {"id": 1, "name": "fish", "supercategory": "fish-dataset"},
        {"id": 2, "name": "cup", "supercategory": "fish-dataset"},
    ]
    square = [[10, 10, 30, 10, 30, 20, 10, 20]]
    for part in ("train", "valid") if split else ("train",):
        (tmp_path / part).mkdir()
        images, annotations = [], []
        for index in range(4):
            name = f"{part}{index}_jpg.rf.0{index}.jpg"
            Image.fromarray(image(index + 10 * (part == "valid"))).save(tmp_path / part / name)
            images.append({"id": index, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
            entry = {"id": index, "image_id": index, "category_id": 1 + index % 2, "segmentation": square, "iscrowd": 0}
            annotations.append({**entry, "bbox": [10, 10, 20, 10], "area": 200})
        content = {"images": images, "categories": categories, "annotations": annotations}
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(content))
    assert run("init", "train", "train/_annotations.coco.json", "--out", "mine.yaml") == 0, capsys.readouterr().err
    config = load_config("mine.yaml")
    assert config.data.classes == ["background", "fish", "cup"]
    assert (config.data.split is None) == split and config.data.val_split == ("valid" if split else "val")
    assert run("check-data", "mine.yaml") == 0, capsys.readouterr().out
    assert all(
        set(np.unique(labels)) in ({0, 1}, {0, 2}) for labels in read_back("mine.yaml", 8 if split else 4).values()
    )


def test_labels_that_only_the_validation_folder_has_are_classes_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for index in range(7):
        photo, mask = split_outside(tmp_path, index)
        photo.parent.mkdir(parents=True, exist_ok=True), mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image(index)).save(photo.with_suffix(".png"))
        Image.fromarray(truth(index, 3 if index < 5 else 4, False).astype(np.uint8)).save(mask.with_suffix(".png"))
    assert run("init", "train/images", "train/masks", "--out", "mine.yaml") == 0
    assert len(load_config("mine.yaml").data.classes) == 4
    assert run("check-data", "mine.yaml") == 0, capsys.readouterr().out


def test_arrays_of_five_channels_and_photographs_of_a_turned_camera(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for part in ("photos", "labels", "spectra"):
        (tmp_path / part).mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for index in range(6):
        np.save(tmp_path / "spectra" / f"a{index}.npy", image(index, 5))
        Image.fromarray(image(index).swapaxes(0, 1)[::-1]).save(tmp_path / f"photos/a{index}.jpg", exif=exif)
        Image.fromarray(truth(index, 3, False).astype(np.uint8)).save(tmp_path / "labels" / f"a{index}.png")
    for images in ("photos", "spectra"):
        assert run("init", images, "labels", "--out", f"{images}.yaml") == 0, capsys.readouterr().err
        assert run("check-data", f"{images}.yaml") == 0, capsys.readouterr().out
    assert load_config("photos.yaml").data.exif == "image"
    assert load_config("spectra.yaml").model.input_channels == 5
    for name, labels in read_back("photos.yaml", 6).items():
        np.testing.assert_array_equal(labels, truth(int(name[1]), 3, False))
