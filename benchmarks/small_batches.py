"""Fine-tuning with small batches, beside a plain loop over SMP.

    python benchmarks/small_batches.py --out results.jsonl [--only population peer ...]     # batch normalisation
    python benchmarks/small_batches.py --out proposed.jsonl --only init peer+dice --draws 1  # what `init` proposes
    python benchmarks/small_batches.py --out FILE --table

U-Net on EfficientNet-Lite0 with ImageNet weights (extra `lite`), three generated data sets of two kinds of pictures
each (bright and dark, two cameras, two zooms), 64x64: 240 for training, 60 for validation, eight epochs. The same
batches, flipped at random, cross-entropy (of `init`, `init+output` and `peer+dice` plus Dice), AdamW with a warm-up and
polynomial decay for all. Each seed of training has pictures of its own, with `--draws` all seeds have the same, in each
of several draws. A run that is in the file is not repeated. The table has the final mIoU, mean ± half the range over
seeds; the range of mIoU over a run's last three epochs, mean of the runs; and the largest fall from an epoch to the
next. The peer is optional: pip install torch==2.13.0 segmentation-models-pytorch.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

EPOCHS, TRAIN, VAL, SIZE, CLASSES, IGNORE, WARM_UP = 8, 240, 60, 64, 6, 255, 10
RATE, DECAY, POWER = 1e-3, 1e-4, 0.9
# As in a plain loop: unclipped, one rate for all parts.
PLAIN: dict[str, Any] = {"clip_norm": None, "lr_scale": {"head": 1.0}}
# What differs from the defaults: sections `model`, `training` and `training.optimizer`.
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "moving": ({"batch_norm": "train"}, {"batchnorm_statistics": "moving"}, PLAIN),
    "population": ({"batch_norm": "train"}, {"batchnorm_statistics": "population"}, PLAIN),
    "frozen": ({"batch_norm": "frozen"}, {"batchnorm_statistics": "moving"}, PLAIN),
    "frozen+population": ({"batch_norm": "frozen"}, {"batchnorm_statistics": "population"}, PLAIN),
    "group": (
        {"batch_norm": "train", "options": {"normalization": "group"}},
        {"batchnorm_statistics": "moving"},
        PLAIN,
    ),
    "init": ({"taps": "expansion"}, {"ema": "auto"}, {}),
    "init+output": ({"taps": "output"}, {"ema": "auto"}, {}),
}
PEERS = ("peer", "peer+dice")
WITH_DICE = ("init", "init+output", "peer+dice")


def bright_or_dark(image: np.ndarray, mask: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Darken to a quarter, and invert one of six, as in microscopy."""
    dark = image // 4
    return (255 - dark if index % 6 == 0 else dark), mask


def two_cameras(image: np.ndarray, mask: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Give every third picture the reversed channels, contrast and noise of another camera."""
    if index % 3:
        return image, mask
    noise = np.random.default_rng(index).normal(0, 8, image.shape)
    return np.clip(255 * (image[..., ::-1] / 255.0) ** 2.2 + noise, 0, 255).astype("uint8"), mask


def two_zooms(image: np.ndarray, mask: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Show the middle of every other picture at twice the size."""
    if index % 2:
        return image, mask
    middle = slice(SIZE // 4, SIZE // 4 + SIZE // 2)
    larger = [cv2.resize(x[middle, middle], (SIZE, SIZE), interpolation=cv2.INTER_NEAREST) for x in (image, mask)]
    return cv2.GaussianBlur(larger[0], (3, 3), 0), larger[1]


DATA = {"brightness": bright_or_dark, "cameras": two_cameras, "zooms": two_zooms}


def pictures(kind: str, split: str, count: int, seed: int) -> Any:
    """Return the source of a split of a data set."""
    from segzoo.data import Sample
    from segzoo.data.generated import GeneratedShapes

    class Pictures(GeneratedShapes):
        """Generated shapes as seen by two kinds of cameras."""

        def __getitem__(self, index: int) -> Sample:
            plain = super().__getitem__(index)
            return Sample(*DATA[kind](plain.image, plain.mask, index), plain.id)

        def fingerprint(self) -> str:
            return f"{kind} {super().fingerprint()}"

    return Pictures(split, count, (SIZE, SIZE), seed, IGNORE)


def drawn(kind: str, split: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, 64, 64, 3) uint8 and masks (N, 64, 64) uint8."""
    samples = list(map(pictures(kind, split, count, seed).__getitem__, range(count)))
    return np.stack([sample.image for sample in samples]), np.stack([sample.mask for sample in samples])


def batches(images: np.ndarray, masks: np.ndarray, batch: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the training batches of all epochs, in another order in each, flipped at random."""
    rng = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        order = rng.permutation(len(images))
        for start in range(0, len(images) - batch + 1, batch):
            chosen = order[start : start + batch]
            flips = [(slice(None, None, -1 if flipped else 1)) for flipped in rng.random(batch) < 0.5]
            x = np.stack([images[index][:, flip] for index, flip in zip(chosen, flips, strict=True)])
            y = np.stack([masks[index][:, flip] for index, flip in zip(chosen, flips, strict=True)])
            yield x.astype("float32"), y.astype("int32")


def rate(step: int, steps: int) -> float:
    """Return the learning rate of a step, counted from 0, as segzoo's `poly` has it."""
    if step < WARM_UP:
        return RATE * (step + 1) / WARM_UP
    return RATE * (1 - (step - WARM_UP) / max(1, steps - WARM_UP)) ** POWER


def mean_iou(counts: np.ndarray) -> float:
    both = np.diag(counts)
    return float(np.mean(both / np.maximum(1, counts.sum(0) + counts.sum(1) - both)))


def train_segzoo(method: str, kind: str, batch: int, seed: int, draw: int) -> list[float]:
    """Train, and return the validation mIoU after each epoch."""
    import keras

    import segzoo
    from segzoo.config import Config

    model, training, optimizer = METHODS[method]
    given = list(batches(*drawn(kind, "train", TRAIN, draw), batch, seed))

    class Given(keras.utils.PyDataset):
        """Batches of all epochs, one epoch after the other."""

        def __len__(self) -> int:
            return len(given)

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return given[index]

    every = len(given) // EPOCHS
    with tempfile.TemporaryDirectory() as folder:
        config = Config.model_validate(
            {
                "name": "run",
                "seed": seed,
                "model": {"decoder": "unet", "backbone": "efficientnet_lite0", "weights": "imagenet", **model},
                "data": {"source": "generated", "size": [SIZE, SIZE], "batch_size": batch, "eval_batch_size": 20},
                "training": {
                    "epochs": EPOCHS,
                    "steps_per_epoch": every,
                    "optimizer": {"name": "adamw", "learning_rate": RATE, "weight_decay": DECAY, **optimizer},
                    "schedule": {"name": "poly", "warmup_steps": WARM_UP},
                    **training,
                },
                "loss": {"cross_entropy": 1.0, **({"dice": 1.0} if method in WITH_DICE else {})},
                "output": {"root": folder, "pictures": 0},
            }
        )
        result = segzoo.train(config, train_data=Given(), val_data=pictures(kind, "val", VAL, draw))
    return [row["val_mean_iou"] for row in result.history]


def train_peer(method: str, kind: str, batch: int, seed: int, draw: int) -> list[float]:
    """Train SMP's U-Net with the same weights on the same batches in a plain loop; validation mIoU of each epoch."""
    import segmentation_models_pytorch as smp
    import torch

    from segzoo.backbones.families.own.efficientnet_lite import weights_file
    from segzoo.interop.torch_file import read_state_dict

    torch.manual_seed(seed)
    model = smp.Unet("tu-tf_efficientnet_lite0", encoder_weights=None, classes=CLASSES)
    published = read_state_dict(*weights_file("efficientnet_lite0")).values()
    with torch.no_grad():  # both list the same layers in the same order, this one without head and classifier
        for (name, own), value in zip(model.encoder.state_dict().items(), published, strict=False):
            assert own.shape == tuple(value.shape), name
            own.copy_(torch.from_numpy(np.array(value)))
    given = list(batches(*drawn(kind, "train", TRAIN, draw), batch, seed))
    images, masks = drawn(kind, "val", VAL, draw)
    norms = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    groups = [{"params": kernels}, {"params": norms, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, RATE, weight_decay=DECAY)
    dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)
    found = []

    def prepared(pixels: np.ndarray) -> Any:
        return torch.from_numpy((pixels.astype("float32").transpose(0, 3, 1, 2) - 127.0) / 128.0)

    for step, (x, y) in enumerate(given):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = rate(step, len(given))
        optimizer.zero_grad()
        logits, target = model(prepared(x)), torch.from_numpy(y).long()
        loss = torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORE)
        (loss + dice(logits, target) if method in WITH_DICE else loss).backward()
        optimizer.step()
        if (step + 1) % (len(given) // EPOCHS) == 0:
            model.eval()
            counts = np.zeros((CLASSES, CLASSES))
            with torch.no_grad():
                predicted = model(prepared(images)).argmax(1).numpy()
            valid = masks != IGNORE
            np.add.at(counts, (masks[valid], predicted[valid]), 1)
            found.append(mean_iou(counts))
    return found


def half_range(runs: list[dict[str, Any]]) -> float:
    """Return half the range of final mIoU over seeds trained with the same pictures, else over all runs."""
    final = [(run["draw"], run["curve"][-1]) for run in runs]
    groups = [[value for draw, value in final if draw == wanted] for wanted in {draw for draw, _ in final}]
    if all(len(group) == 1 for group in groups):
        groups = [[value for _, value in final]]
    return statistics.mean((max(group) - min(group)) / 2 for group in groups)


def cell(runs: list[dict[str, Any]]) -> str:
    """Return the figures of a method on a data set, empty where there are no runs."""
    if not runs:
        return ""
    curves = [run["curve"] for run in runs]
    final = statistics.mean(curve[-1] for curve in curves)
    unrest = statistics.mean(max(curve[-3:]) - min(curve[-3:]) for curve in curves)
    fall = max(max(0.0, before - after) for curve in curves for before, after in itertools.pairwise(curve))
    return f"{final:.3f} ± {half_range(runs):.3f}, {unrest:.3f}, {fall:.3f}"


def table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown table of a file of results."""
    methods = [name for name in (*METHODS, *PEERS) if any(row["method"] == name for row in rows)]
    lines = ["| data | batch | " + " | ".join(methods) + " |", "|---|---:|" + "---:|" * len(methods)]
    for kind, batch in sorted({(row["data"], row["batch"]) for row in rows}):
        of_data = [row for row in rows if (row["data"], row["batch"]) == (kind, batch)]
        cells = [cell([row for row in of_data if row["method"] == name]) for name in methods]
        lines.append(f"| {kind} | {batch} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file of results, a line of JSON for each run")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of training")
    parser.add_argument("--draws", type=int, help="draws of the pictures; by default each seed has one of its own")
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 4, 16], help="batch sizes")
    parser.add_argument("--only", nargs="+", default=[*METHODS, *PEERS], help="methods")
    parser.add_argument("--table", action="store_true", help="print the table of the file, and train nothing")
    chosen = parser.parse_args()
    rows = [json.loads(line) for line in chosen.out.read_text().splitlines()] if chosen.out.is_file() else []
    if chosen.table:
        print(table(rows))
        return
    done = {(row["data"], row["batch"], row["method"], row["draw"], row["seed"]) for row in rows}
    seeds = range(chosen.seeds)
    pairs = [(s, s) for s in seeds] if chosen.draws is None else itertools.product(range(chosen.draws), seeds)
    for (draw, seed), kind, batch, method in itertools.product(pairs, DATA, chosen.batches, chosen.only):
        if (kind, batch, method, draw, seed) in done:
            continue
        began = time.perf_counter()
        given = method, kind, batch, seed, draw
        curve = train_peer(*given) if method in PEERS else train_segzoo(*given)
        row = {"data": kind, "batch": batch, "method": method, "draw": draw, "seed": seed, "curve": curve}
        with chosen.out.open("a") as file:
            file.write(json.dumps({**row, "seconds": round(time.perf_counter() - began, 1)}) + "\n")
        print(row, flush=True)


if __name__ == "__main__":
    main()
