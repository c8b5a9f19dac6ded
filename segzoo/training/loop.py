"""From a Config to a run folder with a trained model, figures and a table."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
from rich.console import Console

from segzoo.backend import collection_paused, make_deterministic, precision_note, start_backend, use_xla
from segzoo.config import Config, dump_config
from segzoo.config.memory import refuse_what_cannot_fit
from segzoo.data import Source, remarks
from segzoo.data.value_range import suggested_for
from segzoo.device import device_name, idle_card_note
from segzoo.errors import RunError, StorageError
from segzoo.terminal import say, warn
from segzoo.tracking import check_packages
from segzoo.training import assemble
from segzoo.training.batchnorm import momentum_for, set_momentum
from segzoo.training.class_pixels import ClassPixels
from segzoo.training.diagnosis import explain
from segzoo.training.distribution import Distribution, start_distribution
from segzoo.training.epochs import Epochs
from segzoo.training.evaluation import evenly_spaced
from segzoo.training.generations import DamagedStateWarning, Stored, previous_of
from segzoo.training.interrupts import Interrupts
from segzoo.training.memory import device_bytes
from segzoo.training.origin import differences, origin_of
from segzoo.training.outputs import Result, Trained
from segzoo.training.plateau import PlateauFactor
from segzoo.training.progress import Progress
from segzoo.training.run import OriginWarning, RunFolder, run_folder
from segzoo.training.short_run import short_run_notes
from segzoo.training.start import Start
from segzoo.training.state import restore
from segzoo.weights import WeightsWarning


def train(
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    resume_anyway: bool = False,
    console: Console | None = None,
) -> Result:
    """Train the model that `config` describes; its run folder is `output.root/name`.

    A run that did not come to its end goes on from its state, and ends with the same bits as one that never stopped. In
    the main thread SIGTERM and SIGINT save the state and stop the run.

    Args:
        config: the resolved configuration.
        resume: there must be a run to go on with; a finished one is shown again.
        overwrite: replace what the run folder holds.
        resume_anyway: go on with a run that was started with another configuration, other data or other code.
        console: where progress is shown; by default the standard output.

    Raises:
        RunInterruptedError: a signal asked to stop; the state is saved.
        RunError: a run folder that holds a finished run, a run of another origin, or another process's run; a state
            that cannot be read; a loss that is not finite; files that cannot be written.
        DataError: samples that cannot be used.
        WeightsError: weights that cannot be had.
    """
    console = console or Console()
    with collection_paused() as resume_collection:
        start_backend()
        if config.training.deterministic:
            make_deterministic()
        check_packages(assemble.trackers(config))
        distribution = start_distribution(config.training.distribution)
        refuse_what_cannot_fit(config, on_processor=device_bytes() is None, processes=distribution.processes)
        if not distribution.is_chief:
            console = Console(quiet=True)
        with distribution.active():
            return _train_on(distribution, config, resume, overwrite, resume_anyway, console, resume_collection)


def _train_on(
    distribution: Distribution,
    config: Config,
    resume: bool,
    overwrite: bool,
    resume_anyway: bool,
    console: Console,
    after_first_step: Callable[[], None],
) -> Result:
    folder = run_folder(config, distribution.is_chief)
    # These come first: a start, a loss or data that cannot be used should leave no run folder behind.
    states = (folder.state, previous_of(folder.state))
    start = None if any(path.is_file() for path in states) and not overwrite else Start.of(config)
    if start is not None and overwrite and folder.config.is_file():
        start.check_outlives(folder.path)
        start.load_into(assemble.build_network(config, weights="none"))  # what is removed should not be missed
    sources = {split: assemble.build_source(config, split) for split in ("train", "val")}
    if (range_needed := suggested_for(sources["train"])) is not None:
        warn(console, str(range_needed))
    batches = assemble.train_batches(config, sources["train"], distribution.rows(config.data.batch_size))
    counted = _class_pixels(config, folder, batches.source, console, distribution)
    loss = assemble.build_loss(config, counted)
    origin = origin_of(config, {split: source.fingerprint() for split, source in sources.items()})
    _check_alike(distribution.gather(origin))
    stored: Stored | None = None

    def begin() -> dict[str, Any] | None:
        nonlocal stored
        held.enter_context(folder.locked(resume=resume))
        with _shown_warnings(console):
            stored = folder.begin(config, origin, resume=resume, overwrite=overwrite, resume_anyway=resume_anyway)
        return None if stored is None else stored.facts

    with Interrupts(console) as interrupts, ExitStack() as held:
        facts = distribution.from_chief(begin)
        if counted is not None and folder.is_written:
            counted.write(folder.class_pixels)
        keras.utils.set_random_seed(config.seed)
        steps = assemble.steps_per_epoch(config, batches)
        with distribution.building():
            trained = _compiled(config, loss, steps, start if facts is None else None, distribution)
        network = trained.network
        progress = Progress(origin=origin) if facts is None else Progress.from_json(facts)
        if facts is not None:
            network.weights_report = progress.weights or network.weights_report  # where the run itself started from
            # All processes assign all variables, in one order: to assign one that they share is a joint act in JAX.
            stored = _shared(stored, facts, distribution)
            if not stored.is_bare:
                restore(stored, network, folder.state, trained.extra)
        _say_what_is_trained(config, network, sources, steps, console)
        val_batches = assemble.eval_batches(config, sources["val"], (distribution.process, distribution.processes))
        own_ids = [sources["val"].ids[index] for index in val_batches.indices]
        epochs = Epochs(
            config,
            folder,
            trained,
            loss,
            steps,
            val_batches,
            console,
            interrupts,
            pictured=evenly_spaced(own_ids, config.output.pictures),
            distribution=distribution,
            after_first_step=after_first_step,
            why_not_finite=functools.partial(explain, config, network, loss, batches),
        )
        is_bare = stored is not None and stored.is_bare
        if (is_bare or distribution.from_chief(folder.result.is_file)) and epochs.is_over(progress):
            return epochs.outputs.result(progress)
        if facts is None or progress.origin != origin:
            progress.origin = origin
            if folder.is_written:
                dump_config(config, folder.config)
            folder.write_environment(
                config, origin["data"], str(network.weights_report), device_name(), bool(network.jit_compile)
            )
        try:
            return epochs.run(batches.batches, progress, stored)
        except StorageError as error:
            raise RunError(
                f"{error} Training stopped after step {progress.step}. The state that was saved last is intact: make "
                "room, or the folder writable, and give the same command again to go on from it."
            ) from error


def _shared(stored: Stored | None, facts: dict[str, Any], distribution: Distribution) -> Stored:
    """The state that process 0 read."""
    if distribution.processes == 1 and stored is not None:
        return stored

    def pack() -> bytes:
        content = io.BytesIO()
        np.savez(content, **stored.arrays)  # type: ignore[union-attr]
        return content.getvalue()

    with np.load(io.BytesIO(distribution.bytes_from_chief(pack)), allow_pickle=False) as archive:
        return Stored(facts, {name: archive[name] for name in archive.files})


def _check_alike(origins: list[dict[str, Any]]) -> None:
    """Raise RunError unless all processes of the run were started with the same things."""
    for process, origin in enumerate(origins):
        if changed := differences(origins[0], origin):
            raise RunError(
                f"Process {process} was started with something else than process 0: {'; '.join(changed)} there. Give "
                "all processes the same configuration, data and packages."
            )


def _compiled(
    config: Config, loss: keras.losses.Loss, steps: int, start: Start | None, distribution: Distribution
) -> Trained:
    """Build and compile the network, from `start` where there is one, and what moves with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightsWarning)  # the report is printed and logged
        network = assemble.build_network(config)
    if start is not None:
        start.load_into(network)
    momentum = config.training.batchnorm_momentum
    set_momentum(network, momentum_for(steps * config.training.evaluate_every) if momentum == "auto" else momentum)
    distribution.synchronize(network)
    losses, weights = assemble.losses_of_outputs(config, network, loss)
    optimizer = assemble.build_optimizer(config, steps * config.training.epochs)
    plateau = PlateauFactor.of(optimizer) if config.training.reduce_on_plateau else None
    network.compile(optimizer, losses, loss_weights=weights, jit_compile=use_xla(config.training.xla))
    # Built here, its variables are not made while the step is traced, which would trace everything twice.
    assemble.start_optimizer(config, network)
    if isinstance(network.output, dict) and not network._compile_loss.built:
        # Keras makes the mean losses of several outputs when the step is traced: too late to restore them.
        network._compile_loss.build(network.output, network.output)
    return Trained(
        network, assemble.build_stages(config, network, steps), assemble.build_averages(config, network), plateau
    )


def _say_what_is_trained(
    config: Config, network: keras.Model, sources: Mapping[str, Source], steps: int, console: Console
) -> None:
    say(
        console,
        f"{config.model.decoder} on {config.model.backbone}: {network.count_params():,} parameters, "
        f"{len(sources['train'])} training and {len(sources['val'])} validation samples, {steps} steps an epoch, "
        f"{'with' if network.jit_compile else 'without'} XLA. {network.weights_report}",
    )
    for remark in dict.fromkeys(remark for source in sources.values() for remark in remarks(source)):
        say(console, f"Note: {remark}")
    say(console, f"Device: {device_name()}")
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


@contextmanager
def _shown_warnings(console: Console) -> Iterator[None]:
    """Show what the block warns of on the console, in one line each: it is meant for whoever started the run."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if issubclass(warning.category, DamagedStateWarning | OriginWarning):
            warn(console, str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _class_pixels(
    config: Config, folder: RunFolder, source: Source, console: Console, distribution: Distribution
) -> ClassPixels | None:
    """Count the training split's pixels where class weights are made from them, or take the run folder's counts."""
    schemes = assemble.weight_schemes(config)
    if not schemes:
        return None

    def count() -> dict[str, Any]:
        counted = ClassPixels.read(folder.class_pixels) if folder.class_pixels.is_file() else None
        if counted is None or counted.fingerprint != source.fingerprint():
            say(console, f"Counting the pixels of each class in {len(source)} training samples ...")
            counted = ClassPixels.of(source, config.data.workers)
        return asdict(counted)

    counted = ClassPixels(**distribution.from_chief(count))
    for name, weights in assemble.class_weights(config, counted).items():
        numbers = ", ".join(f"{weight:.3g}" for weight in weights)
        say(console, f"Class weights of {name}, {schemes[name]}: {numbers}")
    return counted
