"""Fine-tuning with segmentation_models.pytorch in a plain loop, to set beside a run of `train.py` with the same recipe.

    python benchmarks/finetune.py --config camvid_lite0.yaml --set data.root=DIR [--set training.epochs=16 ...]

The same architecture, ImageNet weights of EfficientNet-Lite0, 1 or 2, batches (crops and augmentation are segzoo's
own), loss, optimizer and schedule as in the recipe; what the plain loop has not is the recipe's EMA, frozen batch
normalisation and clipped gradients. Validation images are padded to multiples of 32, and scored at their own size.
Needs: pip install torch==2.13.0 segmentation-models-pytorch.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = {"fpn": "FPN", "unet": "Unet", "deeplabv3plus": "DeepLabV3Plus"}


def network(decoder: str, backbone: str, classes: int) -> Any:
    """Return SMP's network on an EfficientNet-Lite with the ImageNet weights that segzoo loads."""
    import segmentation_models_pytorch as smp
    import torch

    from segzoo.backbones.families.own.efficientnet_lite import weights_file
    from segzoo.interop.torch_file import read_state_dict

    model = getattr(smp, CLASSES[decoder])(f"tu-tf_{backbone}", encoder_weights=None, classes=classes)
    published = read_state_dict(*weights_file(backbone)).values()
    with torch.no_grad():  # both list the same layers in the same order, this one without head and classifier
        for (name, own), value in zip(model.encoder.state_dict().items(), published, strict=False):
            assert own.shape == tuple(value.shape), name
            own.copy_(torch.from_numpy(np.array(value)))
    return model


def prepared(pixels: np.ndarray) -> Any:
    """Return images (B, H, W, 3), 0..255, as the published weights want them, (B, 3, H, W)."""
    import torch

    return torch.from_numpy(np.ascontiguousarray((pixels.astype("float32").transpose(0, 3, 1, 2) - 127.0) / 128.0))


def validate(model: Any, batches: Any, classes: int, ignore: int) -> np.ndarray:
    """Return the confusion matrix (classes, classes) of the validation images, truth by rows."""
    import torch

    counts = np.zeros((classes, classes))
    model.eval()
    with torch.no_grad():
        for images, masks, _ in batches:
            height, width = images.shape[1:3]
            rows, columns = (-height) % 32, (-width) % 32
            padded = np.pad(images, ((0, 0), (0, rows), (0, columns), (0, 0)), mode="edge")
            predicted = model(prepared(padded)).argmax(1).numpy()[:, :height, :width]
            masks = np.asarray(masks).reshape(predicted.shape)
            valid = masks != ignore
            np.add.at(counts, (masks[valid], predicted[valid]), 1)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="recipe, as of train.py")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of train.py")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    parser.add_argument(
        "--state", type=Path, help="file that the state goes to at each evaluation, and from which a run goes on"
    )
    given = parser.parse_args()

    import torch
    from segmentation_models_pytorch.losses import DiceLoss

    from segzoo.config import load_config
    from segzoo.engine import builders

    torch.manual_seed(0)
    torch.set_num_threads(given.threads)
    config = load_config(given.config, given.set)
    classes, ignore, training = len(config.task.classes), config.data.ignore_index, config.training
    model = network(config.model.decoder, config.model.backbone, classes)
    train = builders.train_batches(config, builders.build_source(config, "train"))
    val = builders.eval_batches(config, builders.build_source(config, "val"))
    per_epoch = builders.steps_per_epoch(config, train.steps_per_epoch)
    steps, warm_up, power = per_epoch * training.epochs, training.schedule.warmup_steps, training.schedule.power
    rate, decay = training.optimizer.learning_rate, training.optimizer.weight_decay
    scale = dict(training.optimizer.lr_scale or {}).get("backbone", 1.0)
    groups = []
    for part, of in ((model.encoder, scale), (model.decoder, 1.0), (model.segmentation_head, 1.0)):
        kernels = [parameter for parameter in part.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in part.parameters() if parameter.ndim <= 1]
        groups += [
            {"params": kernels, "weight_decay": decay, "of": of},
            {"params": others, "weight_decay": 0.0, "of": of},
        ]
    optimizer = torch.optim.AdamW(groups, rate)
    weights = torch.tensor(config.loss["cross_entropy"]["class_weights"], dtype=torch.float32)
    cross_entropy = torch.nn.CrossEntropyLoss(weight=weights, ignore_index=ignore)
    dice = DiceLoss("multiclass", ignore_index=ignore)
    begin, began, cpu = 0, time.perf_counter(), time.process_time()
    if given.state and given.state.exists():
        state = torch.load(given.state)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        begin, began, cpu = state["step"], began - state["time"], cpu - state["cpu"]
    for step in range(begin, steps):
        images, masks = train.batch(step)
        factor = (step + 1) / warm_up if step < warm_up else (1 - (step - warm_up) / max(1, steps - warm_up)) ** power
        for group in optimizer.param_groups:
            group["lr"] = rate * factor * group["of"]
        model.train()
        optimizer.zero_grad()
        logits = model(prepared(np.asarray(images)))
        target = torch.from_numpy(np.asarray(masks)).long()
        loss = cross_entropy(logits, target) + dice(logits, target)
        loss.backward()
        optimizer.step()
        epoch, left = divmod(step + 1, per_epoch)
        if left == 0 and (epoch % training.evaluate_every == 0 or epoch == training.epochs):
            counts = validate(model, val, classes, ignore)
            both = np.diag(counts)
            iou = both / np.maximum(1, counts.sum(0) + counts.sum(1) - both)
            minutes = (time.process_time() - cpu) / 60, (time.perf_counter() - began) / 60
            print(
                f"epoch {epoch}: loss {loss.item():.3f}, mIoU {iou.mean():.3f}, {minutes[0]:.1f} CPU minutes, "
                f"{minutes[1]:.1f} minutes; " + ", ".join(map("{} {:.2f}".format, config.task.classes, iou)),
                flush=True,
            )
            if given.state:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
                spent = {"time": 60 * minutes[1], "cpu": 60 * minutes[0]}
                part = given.state.with_suffix(".part")
                torch.save({**state, **spent}, part)
                part.replace(given.state)
    assert math.isfinite(loss.item())


if __name__ == "__main__":
    main()
