"""`segzoo check-data` ends with exit code 1 where a run stops at its data, and with 0 where it does not.

test_check_agrees_with_training.py plants faults into files. Here they lie in what a configuration makes of sound files:
augmentation, sizes in batches, class weights, lists, tables, groups, folds, number types: 77 faults, and 47 cases that
are none. The check's side is the command. Training's side is all that `train` does with data: sources, counts, the
loss, an epoch of batches as `fit` gets them, and the evaluation of the validation and, as `segzoo evaluate` does, the
test split; without a network, which costs seconds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
from PIL import Image

from segzoo.cli import main
from segzoo.config import Config, load_config
from segzoo.engine import builders
from segzoo.engine.class_pixels import ClassPixels
from segzoo.engine.fit_dataset import FitDataset
from segzoo.errors import SegzooError
from segzoo.reporting import data_quality

RECIPE = """
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: folder, root: set, classes: [ground, thing], batch_size: 2, eval_batch_size: 2, workers: 0}
training: {epochs: 1}
"""
POOL = "data.root=pool"
SIZE = (36, 48)
E_ACUTE = os.fsdecode(b"\xe9")  # in Latin-1; as a file's name no UTF-8
BALANCED = "loss={cross_entropy: {class_weights: balanced}}"


def write_sample(folder: Path, name: str, size: tuple[int, int] = SIZE) -> None:
    """An image of noise and its mask, the same for one name."""
    rng = np.random.default_rng(sum(os.fsencode(name)))
    mask = np.zeros(size, np.uint8)
    mask[4:20, 6:30] = 1
    for kind, pixels in (("images", rng.integers(0, 256, (*size, 3), dtype=np.uint8)), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{name}.png")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets: `set` with four training and three validation samples, and `pool` with six and no split."""
    home = tmp_path_factory.mktemp("sound")
    for split, count in (("train", 4), ("val", 3)):  # in training whole batches, so that none is left over
        for number in range(count):
            write_sample(home / "set" / split, f"{split}{number}")
    for number in range(6):
        write_sample(home / "pool", f"p{number}")
    (home / "mine.yaml").write_text(RECIPE)
    return home


@pytest.fixture
def home(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with copies of the sound data sets."""
    shutil.copytree(sound, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    monkeypatch.setattr(data_quality.DataReport, "write", lambda self, folder: folder)  # test_cli.py reads it
    return tmp_path / "home"


class Case(NamedTuple):
    """Overrides, what is done to the working directory, and words that both messages must have."""

    sets: tuple[str, ...] = ()
    plant: Callable[[Path], object] = lambda home: None
    words: tuple[str, ...] = ()


def small(*names: str, size: tuple[int, int] = (20, 30)) -> Callable[[Path], None]:
    """Give samples of `set` another size."""

    def plant(home: Path) -> None:
        for name in names:
            write_sample(home / "set" / name.rstrip("0123456789"), name, size)

    return plant


def text(**files: str | bytes) -> Callable[[Path], None]:
    """Write files such as train.txt, named train_txt here."""

    def plant(home: Path) -> None:
        for name, content in files.items():
            path = home / name.replace("_", ".")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return plant


def masks_of(value: int) -> Callable[[Path], None]:
    """Let masks of `set` hold one value alone."""

    def plant(home: Path) -> None:
        for path in (home / "set").glob("*/masks/*.png"):
            Image.new("L", SIZE[::-1], value).save(path)

    return plant


def broken(name: str) -> Callable[[Path], int]:
    return lambda home: (home / name).write_bytes(b"no picture")


def channels(home: Path) -> None:
    """Images of five channels, and masks of two channels that show nothing."""
    for path in (home / "set").glob("*/images/*.png"):
        pixels = np.asarray(Image.open(path))
        np.save(path.with_suffix(".npy"), np.concatenate([pixels, pixels[..., :2]], axis=-1))
        path.unlink()


def no_object(home: Path) -> None:
    for path in (home / "set").glob("*/masks/*.png"):
        np.save(path.with_suffix(".npy"), np.zeros((*SIZE, 2), np.uint8))
        path.unlink()


def stored(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Store what a function makes of an image of `set` as an array of its own number type, or as TIFF."""

    def plant(home: Path) -> None:
        path = home / "set" / name.partition(".")[0].rstrip("0123456789") / "images" / name
        pixels = change(np.asarray(Image.open(path.with_suffix(".png"))))
        path.with_suffix(".png").unlink()
        if path.suffix == ".tif":
            Image.fromarray(pixels).save(path)
        else:
            (np.save if path.suffix == ".npy" else np.savez)(path, pixels)

    return plant


def written(name: str, form: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Store what a function makes of the grey of an image of `set` in a format that its ending need not tell of."""

    def plant(home: Path) -> None:
        path = home / "set" / name.partition(".")[0].rstrip("0123456789") / "images" / name
        grey = np.asarray(Image.open(path.with_suffix(".png")))[..., 0]
        path.with_suffix(".png").unlink()
        Image.fromarray(change(grey)).save(path, format=form)

    return plant


def hole(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Grey images of floating-point numbers with a value of their own in one place."""

    def change(pixels: np.ndarray) -> np.ndarray:
        grey = pixels[..., 0].astype(np.float32)
        grey[2, 3] = value
        return grey

    return change


def one_sample(home: Path) -> None:
    for kind in ("images", "masks"):
        for number in (1, 2, 3):
            (home / "set" / "train" / kind / f"train{number}.png").unlink()


def bytes_names(home: Path) -> None:
    """A name in Latin-1, which is no UTF-8, in either split."""
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            path = home / "set" / split / kind / f"{split}0.png"
            path.rename(path.with_stem(f"{split}0{E_ACUTE}"))


def bytes_name_of_nothing(home: Path) -> None:
    bytes_names(home)
    broken(f"set/val/masks/val0{E_ACUTE}.png")(home)


def to_test_split(home: Path) -> None:
    shutil.copytree(home / "set" / "val", home / "set" / "exam")
    for kind in ("images", "masks"):
        for path in (home / "set" / "exam" / kind).iterdir():
            path.rename(path.with_name(path.name.replace("val", "exam")))
    for number in range(3):
        write_sample(home / "set" / "exam", f"exam{number}", (20, 30) if number == 1 else SIZE)


def augment(*transforms: str) -> str:
    return f"data.augment=[{', '.join(transforms)}]"


def lists(train: str | bytes, val: str | bytes = "p5\n", **more: str | bytes) -> Callable[[Path], None]:
    return text(train_txt=train, val_txt=val, **more)


def table(content: str | bytes) -> Callable[[Path], None]:
    return text(all_csv=content)


LISTED = (POOL, "data.split={train: train.txt, val: val.txt}")
TESTED = (POOL, "data.split={train: train.txt, val: val.txt, test: test.txt}")
TABLE = (POOL, "data.split={csv: all.csv}")
IMAGES = "\n".join(f"images/p{number}.png masks/p{number}.png" for number in range(4)) + "\n"
PAIR = "images/p5.png masks/p5.png\n"
ROWS = "image,split,patient\n" + "".join(f"p{n},{'val' if n > 3 else 'train'},x{n // 2}\n" for n in range(6))
CROP = "{RandomCrop: {height: 32, width: 32}}"
PAD = "{PadIfNeeded: {min_height: 32, min_width: 32}}"
MULTILABEL = ("mode=multilabel", "data.masks=array", "loss={binary_cross_entropy: 1.0}")
LARGE = "{RandomCrop: {height: 96, width: 96}}"

AUGMENTATION = {
    "crop larger than the images": Case((augment(LARGE),), words=("train", "exceeds image dimensions")),
    "crop larger than one image": Case((augment(CROP),), small("train1"), ("train1", "PadIfNeeded")),
    "crop in the middle": Case((augment("{CenterCrop: {height: 40, width: 40}}"),), words=("train",)),
    "crop of fixed corners": Case((augment("{Crop: {x_max: 90, y_max: 30}}"),), words=("train",)),
    "crop around objects": Case((augment("{CropNonEmptyMaskIfExists: {height: 64, width: 16}}"),), words=("train",)),
    "crop behind a scale": Case(
        (augment("{RandomScale: {scale_limit: [-0.5, -0.5], p: 1.0}}", CROP),), words=("train", "exceeds")
    ),
    "crop in a composition": Case(
        (augment(f"{{OneOf: {{transforms: [{LARGE}, {LARGE}], p: 1.0}}}}"),), words=("train", "exceeds")
    ),
    "colours of five channels": Case(
        (augment("{HueSaturationValue: {p: 1.0}}"), "model.input_channels=5"), channels, ("train",)
    ),
    "dropout of the objects of a multilabel mask": Case(
        (*MULTILABEL, augment("Blur", "MaskDropout")), no_object, ("data.augment", "MaskDropout")
    ),
    "border of a label that is no class": Case(
        (augment("{Pad: {padding: 4, fill_mask: 2}}"),), words=("data.augment", "fill_mask is 2")
    ),
    "labels that are mixed": Case(
        ("data.val_transforms=[{Resize: {height: 32, width: 32, mask_interpolation: 1}}]",),
        words=("data.val_transforms", "mask_interpolation"),
    ),
    "crop of evaluations": Case(
        ("data.val_transforms=[{CenterCrop: {height: 40, width: 40}}]",), words=("val", "data.val_transforms failed")
    ),
    "crop of evaluations, one image": Case(
        (f"data.val_transforms=[{CROP}]",), small("val2"), ("val2", "data.val_transforms failed")
    ),
    "crop of the test split, one image": Case(
        (f"data.val_transforms=[{CROP}]", "data.test_split=exam"), to_test_split, ("exam1", "data.val_transforms")
    ),
}
BATCHES = {
    "images of two sizes": Case((), small("train1"), ("train1", "differ in size")),
    "images of three sizes": Case(
        (), lambda home: (small("train0")(home), small("train2", size=(50, 40))(home)), ("differ in size", "train2")
    ),
    "sizes drawn at random": Case((augment("{RandomScale: {p: 1.0}}"),), words=("differ in size",)),
    "sizes drawn at random, one sample": Case(
        (augment("{RandomScale: {p: 1.0}}"),), one_sample, ("differ in size", "train0")
    ),
    "quarter turns": Case((augment("{RandomRotate90: {p: 0.5}}"), "data.repeats=8"), words=("differ in size",)),
    "padding that is too small": Case(
        (augment("{PadIfNeeded: {min_height: 24, min_width: 32}}"),), small("train2"), ("differ in size", "train2")
    ),
    "resize that keeps the ratio": Case(
        (augment("{LongestMaxSize: {max_size: 32}}"),), small("train2", size=(40, 40)), ("differ in size", "train2")
    ),
    "batches of one, the first two alike": Case(("data.batch_size=1", "seed=0"), small("train1"), ("20x30", "36x48")),
}
COUNTS = {
    "weights of classes without a pixel": Case(
        (*MULTILABEL, BALANCED.replace("cross_entropy", "binary_cross_entropy")),
        no_object,
        ("shows a pixel of any class", "binary_cross_entropy.class_weights"),
    ),
    "weights of broken masks": Case((BALANCED,), broken("set/train/masks/train1.png"), ("train1.png",)),
    "weights of ignored masks": Case((BALANCED,), masks_of(255), ("nothing to learn",)),
    "label that is no class": Case((BALANCED,), masks_of(2), ("train0.png", "label 2")),
    "oversampling of broken masks": Case(("data.oversample=0.5",), broken("set/train/masks/train1.png"), ("train1",)),
    "stratified broken masks": Case(
        (POOL, "data.split={fraction: 0.4, stratify: true}"), broken("pool/masks/p3.png"), ("p3.png",)
    ),
    "more samples to overfit than there are": Case(("training.overfit=9",), words=("training.overfit is 9",)),
}
LISTS = {
    "no list": Case(LISTED, text(val_txt="p1\n"), ("train.txt", "cannot be read")),
    "folder for a list": Case(LISTED, lambda home: ((home / "train.txt").mkdir(), lists), ("train.txt",)),
    "empty list": Case(LISTED, lists("# nothing\n\n"), ("train.txt", "names no sample")),
    "unknown sample": Case(LISTED, lists("p0\np99\n"), ("train.txt, line 2", "p99")),
    "sample twice": Case(LISTED, lists("p0\np1\np0\n"), ("train.txt, line 3", "p0")),
    "sample in both": Case(LISTED, lists("p0\np5\n"), ("p5", "train.txt", "val.txt")),
    "sample for training and test": Case(TESTED, lists("p0\np1\n", test_txt="p1\n"), ("p1", "test.txt")),
    "no UTF-8": Case(LISTED, lists(b"p0\np\xe9\n"), ("train.txt", "cannot be read")),
    "UTF-16": Case(LISTED, lists("p0\np1\n".encode("utf-16")), ("train.txt", "cannot be read")),
    "quotes without an end": Case(LISTED, lists('"p0\np1\n'), ("train.txt, line 1", "quotes")),
    "missing image of a pair": Case(
        LISTED, lists(IMAGES + "images/p9.png masks/p4.png\n", PAIR), ("train.txt, line 5", "p9.png")
    ),
    "missing mask of a pair": Case(
        LISTED, lists(IMAGES + "images/p4.png masks/p9.png\n", PAIR), ("train.txt, line 5", "p9.png")
    ),
    "pair of three words": Case(LISTED, lists(IMAGES + "images/p4.png masks/p4.png 7\n", PAIR), ("line 5", "3 words")),
    "pair without a mask": Case(LISTED, lists(IMAGES + "images/p4.png\n", PAIR), ("train.txt, line 5",)),
    "pair twice": Case(LISTED, lists(IMAGES + "images/p3.png masks/p3.png\n", PAIR), ("train.txt, line 5",)),
    "pair in both": Case(LISTED, lists(IMAGES + PAIR, PAIR), ("p5.png", "train.txt", "val.txt")),
    "broken file of a pair": Case(
        LISTED, lambda home: (lists(IMAGES, PAIR)(home), broken("pool/masks/p1.png")(home)), ("p1.png",)
    ),
    "pairs of two sizes": Case(
        LISTED, lambda home: (lists(IMAGES, PAIR)(home), write_sample(home / "pool", "p1", (20, 30))), ("p1", "differ")
    ),
}  # fmt: skip
TABLES = {
    "no table": Case(TABLE, words=("all.csv", "cannot be read")),
    "folder for a table": Case(TABLE, lambda home: (home / "all.csv").mkdir(), ("all.csv",)),
    "empty table": Case(TABLE, table(""), ("all.csv", "'image'")),
    "no column of images": Case(TABLE, table(ROWS.replace("image", "picture")), ("all.csv", "'image'")),
    "no column of splits": Case(TABLE, table(ROWS.replace("split", "part")), ("all.csv", "'split'")),
    "semicolons": Case(TABLE, table(ROWS.replace(",", ";")), ("all.csv", "'image'")),
    "sample twice": Case(TABLE, table(ROWS + "p1,train,x\n"), ("all.csv, line 8", "p1")),
    "sample without a row": Case(TABLE, table(ROWS.replace("p2,train,x1\n", "")), ("all.csv", "p2")),
    "unknown split": Case(TABLE, table(ROWS.replace("val", "exam")), ("all.csv", "exam")),
    "empty split": Case(TABLE, table(ROWS.replace("val", "train")), ("all.csv", "split val")),
    "nothing to train on": Case(TABLE, table(ROWS.replace(",train", ",")), ("all.csv", "split train")),
    "no UTF-8": Case(TABLE, table(ROWS.encode() + b"p\xe9,train,x\n"), ("all.csv", "cannot be read")),
    "a field without an end": Case(TABLE, table(ROWS + '"' + "x" * 140_000), ("all.csv", "cannot be read")),
    "no column of groups": Case(
        (POOL, "data.split={fraction: 0.5, csv: all.csv, group: ward}"), table(ROWS), ("all.csv", "'ward'")
    ),
    "fewer groups than folds": Case(
        (POOL, "data.split={fold: {index: 0, of: 4}, csv: all.csv, group: patient}"), table(ROWS), ("3 groups",)
    ),
    "expression that finds no group": Case(
        (POOL, "data.split={fraction: 0.5, group: '^case'}"), words=("data.split.group", "p0")
    ),
    "one group": Case((POOL, "data.split={fraction: 0.5, group: '^p'}"), words=("1 groups",)),
    "fewer samples than folds": Case((POOL, "data.split={fold: {index: 0, of: 9}}"), words=("6 samples",)),
    "no folder": Case(("data.root=nowhere",), words=("nowhere",)),
    "no folder of the split": Case(("data.val_split=valid",), words=("valid", "data.root")),
    "no folder of the test split": Case(("data.test_split=exam",), words=("exam",)),
    "no image in the folder": Case((), lambda home: shutil.rmtree(home / "set/val/images"), ("val/images",)),
}
NUMBERS = {
    f"{value} in a {suffix}": Case((), stored(f"train1{suffix}", hole(value)), (f"train1{suffix}", "x 3, y 2"))
    for value in (np.nan, np.inf)
    for suffix in (".tif", ".npy", ".npz")
} | {
    "float64 beyond float32": Case((), stored("train1.npz", lambda image: image * 1e300), ("train1.npz", "infinite")),
}
NAMES = {"broken file whose name is no UTF-8": Case((), bytes_name_of_nothing, ("val0",))}
KINDS = {
    "augmentation": AUGMENTATION,
    "batches": BATCHES,
    "counts": COUNTS,
    "lists": LISTS,
    "tables": TABLES,
    "numbers": NUMBERS,
}
FAULTS = {f"{kind}: {name}": case for kind, cases in {**KINDS, "names": NAMES}.items() for name, case in cases.items()}

SOUND = {
    "as it is": Case(),
    "crop that fits": Case((augment(CROP, "HorizontalFlip"),)),
    "crop of several sizes": Case(("data.crop={size: [40, 40]}",), small("train1")),
    "padding before the crop": Case((augment(PAD, CROP),), small("train1")),
    "evaluation of several sizes": Case((), small("val1")),
    "batches of one, the first two unlike": Case(("data.batch_size=1", "seed=1"), small("train1")),
    "weights, oversampling, repeats": Case((BALANCED, "data.oversample=0.5", "data.repeats=3")),
    "boundary loss": Case(("loss={cross_entropy: 1.0, boundary: 0.1}",)),
    "crops of the foreground": Case(("data.crop={size: [32, 32], strategy: foreground, background: [ground]}",)),
    "overfit": Case(("training.overfit=2",)),
    "names that are no UTF-8": Case((), bytes_names),
    "list": Case(LISTED, lists("p0\np1\np2\n")),
    "list with marks of Windows": Case(LISTED, lists(b"\xef\xbb\xbfp0\r\np1\r\n", b"\xef\xbb\xbfp5\r\n")),
    "list of pairs": Case(LISTED, lists(IMAGES, PAIR)),
    "list of pairs, leading slashes": Case(LISTED, lists(IMAGES.replace("images", "/images"), PAIR)),
    "table": Case(TABLE, table(ROWS)),
    "table with marks of Windows": Case(TABLE, table(b"\xef\xbb\xbf" + ROWS.replace("\n", "\r\n").encode())),
    "table with more rows": Case(TABLE, table(ROWS + "q1,train,x\n")),
    "table of paths": Case(TABLE, table(ROWS.replace("\np", "\nC:\\data\\p").replace(",val", ".png,Valid"))),
    "groups of a table": Case((POOL, "data.split={fraction: 0.5, csv: all.csv, group: patient}"), table(ROWS)),
    "fold": Case((POOL, "data.split={fold: {index: 1, of: 3}, stratify: true, test_fraction: 0.3}")),
}


MORE_TYPES = set()  # each type has one place by default, and each place some types
for _type in ("int64", "uint64", "int16", "float16", "bool"):  # beside images of uint8, in either split
    for _place in ("train1.npz", "train3.npy", "val1.npz"):
        SOUND[f"{_place} of {_type}"] = Case((), stored(_place, lambda image, to=_type: image.astype(to)))
        MORE_TYPES.add(f"{_place} of {_type}")
MORE_TYPES -= {
    "train1.npz of int64",
    "train3.npy of uint64",
    "val1.npz of int16",
    "train3.npy of float16",
    "val1.npz of bool",
}
SOUND["train1.tif of float32"] = Case((), stored("train1.tif", lambda image: image[..., 0].astype(np.float32)))
ONE_BY_ONE = ("data.batch_size=1", "seed=0")  # train3 is the last of the epoch, far behind the batches looked at first
OTHER_ENDINGS = {
    "float32 TIFF called .png": ("train3.png", "TIFF", lambda grey: grey + np.float32(0.5)),
    "float32 TIFF called .JPG": ("train3.JPG", "TIFF", lambda grey: grey + np.float32(0.5)),
    "int32 TIFF called .webp": ("train3.webp", "TIFF", lambda grey: grey.astype(np.int32)),
    "16-bit PNG called .jpg": ("train3.jpg", "PNG", lambda grey: grey.astype(np.uint16) * 256),
    "16-bit TIFF called .bmp": ("train3.bmp", "TIFF", lambda grey: grey.astype(np.uint16) * 256),
    "8-bit PNG called .tif": ("train3.tif", "PNG", lambda grey: grey),
    "float32 TIFF called .png, for evaluation": ("val1.png", "TIFF", lambda grey: grey + np.float32(0.5)),
}
for _name, _file in OTHER_ENDINGS.items():
    SOUND[_name] = Case(ONE_BY_ONE, written(*_file))
SOUND["a negative number"] = Case((), stored("train2.npy", lambda image: image.astype(np.int16) - 300))


def absolute_pairs(home: Path) -> None:
    lines = [f"{home}/pool/images/p{n}.png\t{home}/pool/masks/p{n}.png\n" for n in range(4)]
    lists("".join(lines), PAIR)(home)


def spaces(home: Path) -> None:
    for number in range(4):
        for kind in ("images", "masks"):
            (home / f"pool/{kind}/p{number}.png").rename(home / f"pool/{kind}/p {number}.png")
    unquoted = "".join(f"images/p {n}.png masks/p {n}.png\n" for n in range(3))
    lists(unquoted + '"images/p 3.png" "masks/p 3.png"\n', PAIR)(home)


SOUND |= {"absolute paths": Case(LISTED, absolute_pairs), "spaces in paths": Case(LISTED, spaces)}


def read_all(config: Config) -> None:
    """Do with the data what a run of one epoch and its evaluations do."""
    sources = {split: builders.build_source(config, split) for split in ("train", "val")}
    batches = builders.train_batches(config, sources["train"])
    schemes = builders.weight_schemes(config)
    builders.build_loss(config, ClassPixels.of(batches.source, workers=1) if schemes else None)
    steps = builders.steps_per_epoch(config, batches.steps_per_epoch)
    with closing(FitDataset(batches.batches)) as feed:
        try:
            for _, _ in zip(range(steps), feed.from_step(0), strict=False):
                pass
        except Exception:
            if feed.error is not None:
                raise feed.error from None
            raise
    if builders.has_test_split(config):
        sources["test"] = builders.build_source(config, "test")
    for split in ("val", "test"):
        for _ in builders.eval_batches(config, sources[split]) if split in sources else ():
            pass


def refusal(case: Case) -> str:
    """Return training's error message, "" for none."""
    try:
        read_all(load_config("mine.yaml", case.sets))
    except SegzooError as error:
        return str(error)
    return ""


def checked(case: Case, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """Exit code of `segzoo check-data`, and all that it printed."""
    with pytest.raises(SystemExit) as stop:
        main(["check-data", "mine.yaml", *(word for item in case.sets for word in ("--set", item))])
    printed = capsys.readouterr()
    return stop.value.code, printed.out + printed.err


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="batches of one and of another size")
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refused_by_both_and_named(name: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = FAULTS[name]
    case.plant(home)
    said = refusal(case)
    code, printed = checked(case, capsys)
    assert said and code == 1, (said, printed)
    for word in case.words:
        assert word in said and word in printed, (word, said, printed)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly) if name in MORE_TYPES else name for name in SOUND]
)
def test_what_is_no_fault_is_refused_by_neither(name: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = SOUND[name]
    case.plant(home)
    assert refusal(case) == ""
    code, printed = checked(case, capsys)
    assert code == 0, printed


@pytest.mark.parametrize("name", [name for name, (file, *_) in OTHER_ENDINGS.items() if file.startswith("train")])
def test_an_ending_changes_no_value_that_fit_gets(name: str, home: Path) -> None:
    _, _, change = OTHER_ENDINGS[name]
    grey = np.asarray(Image.open(home / "set/train/images/train3.png"))[..., 0]
    SOUND[name].plant(home)
    config = load_config("mine.yaml", ONE_BY_ONE)
    batches = builders.train_batches(config, builders.build_source(config, "train"))
    with closing(FitDataset(batches.batches)) as feed:
        images = [np.asarray(images)[0] for (images, _), _ in zip(feed.from_step(0), range(4), strict=False)]
    expected = change(grey)
    if expected.dtype == np.uint16:
        expected = (expected >> 8).astype(np.uint8)
    of_floats = expected.dtype != np.uint8
    assert {image.dtype for image in images} == {np.dtype(np.float32 if of_floats else np.uint8)}
    np.testing.assert_array_equal(images[3], np.repeat(expected[..., None], 3, axis=2))


def test_fix_leaves_out_no_sample_for_the_sake_of_the_configuration(home: Path) -> None:
    """A sample that fits no batch is sound as it lies on disk."""
    small("train1")(home)
    with pytest.raises(SystemExit) as stop:
        main(["check-data", "mine.yaml", "--set", augment(CROP), "--fix", "copy"])
    assert stop.value.code == 1
    assert len(list((home / "copy" / "train" / "images").iterdir())) == 4


def test_there_are_enough_faults() -> None:
    assert len(FAULTS) >= 60
