"""Announcement of a run before its first step: network, weights, data and device, and remarks on them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import keras
from rich.console import Console

from segzoo.backend import precision_note
from segzoo.config import Config
from segzoo.data import Source, remarks
from segzoo.device import device_line, idle_card_note
from segzoo.engine import builders
from segzoo.engine.batched import Batched
from segzoo.engine.checkpoint.checkpoint_file import DamagedStateWarning
from segzoo.engine.checkpoint.provenance import HEAD_FACTOR
from segzoo.engine.checkpoint.run_folder import OriginWarning
from segzoo.engine.short_run import short_run_notes
from segzoo.terminal import say, warn


def say_what_is_trained(
    config: Config,
    network: keras.Model,
    is_given: bool,
    sources: Mapping[str, Source | Batched],
    steps: int,
    console: Console,
) -> None:
    """Show the network and its weights, the number of samples and steps, the device, and remarks on them.

    Args:
        config: the resolved configuration.
        network: compiled.
        is_given: whether the network was passed to `train`.
        sources: samples or batches of the splits "train" and "val".
        steps: steps of an epoch.
        console: console on which they are shown.
    """
    model = f"The given model {network.name}" if is_given else f"{config.model.decoder} on {config.model.backbone}"
    say(
        console,
        f"{model}: {network.count_params():,} parameters, "
        f"{_amounts(sources)}, {steps} steps an epoch, "
        f"{'with' if network.jit_compile else 'without'} XLA. {network.weights_report}"
        + ("; batch normalisation of the backbone frozen" if getattr(network, "batch_norm", None) == "frozen" else ""),
    )
    samples = [source for source in sources.values() if not isinstance(source, Batched)]
    for remark in dict.fromkeys(remark for source in samples for remark in remarks(source)):
        say(console, f"Note: {remark}")
    say(console, f"Device: {device_line(config.training.precision, bool(network.jit_compile))}")
    if settings := _automatic(config, network, steps):
        say(console, f"Optimizer: {config.training.optimizer.name}, {settings}")
    for note in (idle_card_note(), *short_run_notes(config, network, steps)):
        if note:
            warn(console, note)
    if note := precision_note(config.training.precision):
        warn(console, note)
    if config.training.overfit is not None:
        warn(
            console,
            f"training.overfit: trained and evaluated on the same {config.training.overfit} samples; the figures say "
            "what the network can learn by heart.",
        )


_WORDS = {
    "training.optimizer.clip_norm": "gradients clipped to a norm of {:g}",
    HEAD_FACTOR: "learning rate of the head times {:.3g}",
    "training.ema": "weights averaged with a decay of {:.4g}",
}


def _automatic(config: Config, network: keras.Model, steps: int) -> str:
    """Say what the settings come to that depend on the optimizer and the length of the run."""
    found = builders.automatic(config, steps * config.training.epochs, network)
    return ", ".join(_WORDS[key].format(value) for key, value in found.items())


def _amounts(sources: Mapping[str, Source | Batched]) -> str:
    """Say how many samples there are; of given batches nobody knows."""
    train, val = sources["train"], sources["val"]
    if not isinstance(train, Batched) and not isinstance(val, Batched):
        return f"{len(train)} training and {len(val)} validation samples"
    words = {"train": "training", "val": "validation"}
    return " and ".join(
        f"given {words[split]} batches" if isinstance(source, Batched) else f"{len(source)} {words[split]} samples"
        for split, source in sources.items()
    )


@contextmanager
def shown_warnings(console: Console) -> Iterator[None]:
    """Show the block's warnings on the console, one line each: they are meant for whoever started the run."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if issubclass(warning.category, DamagedStateWarning | OriginWarning):
            warn(console, str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
