"""From a Config to a run folder with a trained model, figures and a table."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import keras
from rich.console import Console
from rich.markup import escape

from segzoo.backend import precision_note, start_backend, use_xla
from segzoo.config import Config, dump_config
from segzoo.data import Source
from segzoo.errors import RunError, StorageError
from segzoo.training import assemble
from segzoo.training.batchnorm import momentum_for, set_momentum
from segzoo.training.class_pixels import ClassPixels
from segzoo.training.epochs import Epochs, Result
from segzoo.training.evaluation import evenly_spaced
from segzoo.training.generations import DamagedStateWarning
from segzoo.training.interrupts import Interrupts
from segzoo.training.origin import origin_of
from segzoo.training.plateau import PlateauFactor
from segzoo.training.progress import Progress
from segzoo.training.run import OriginWarning, RunFolder, run_folder
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
    start_backend()
    folder = run_folder(config)
    # These come first: a loss or data that cannot be used should leave no run folder behind.
    sources = {split: assemble.build_source(config, split) for split in ("train", "val")}
    batches = assemble.train_batches(config, sources["train"])
    counted = _class_pixels(config, folder, batches.source, console)
    loss = assemble.build_loss(config, counted)
    origin = origin_of(config, {split: source.fingerprint() for split, source in sources.items()})
    with Interrupts(console) as interrupts, folder.locked(resume=resume):
        with _shown_warnings(console):
            stored = folder.begin(config, origin, resume=resume, overwrite=overwrite, resume_anyway=resume_anyway)
        if counted is not None:
            counted.write(folder.class_pixels)
        keras.utils.set_random_seed(config.seed)
        steps = config.training.steps_per_epoch or batches.steps_per_epoch
        network, plateau = _compiled(config, loss, steps)
        progress = Progress(origin=origin)
        if stored is not None:
            progress = Progress.from_json(stored.facts)
            restore(stored, network, folder.state)
        _say_what_is_trained(config, network, sources, steps, console)
        epochs = Epochs(
            config,
            folder,
            network,
            loss,
            steps,
            assemble.eval_batches(config, sources["val"]),
            console,
            interrupts,
            plateau=plateau,
            pictured=evenly_spaced(sources["val"].ids, config.output.pictures),
        )
        if folder.result.is_file() and epochs.is_over(progress):
            return epochs.result(progress)
        if stored is None or progress.origin != origin:
            progress.origin = origin
            dump_config(config, folder.config)
            folder.write_environment(config, origin["data"], str(network.weights_report))
        try:
            return epochs.run(batches.batches, progress, stored)
        except StorageError as error:
            raise RunError(
                f"{error} Training stopped after step {progress.step}. The state that was saved last is intact: make "
                "room, or the folder writable, and give the same command again to go on from it."
            ) from error


def _compiled(config: Config, loss: keras.losses.Loss, steps: int) -> tuple[keras.Model, PlateauFactor | None]:
    """Build and compile the network, and the factor on its learning rate where the configuration asks for one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightsWarning)  # the report is printed and logged
        network = assemble.build_network(config)
    momentum = config.training.batchnorm_momentum
    set_momentum(network, momentum_for(steps * config.training.evaluate_every) if momentum == "auto" else momentum)
    losses, weights = assemble.losses_of_outputs(config, network, loss)
    optimizer = assemble.build_optimizer(config, steps * config.training.epochs)
    plateau = PlateauFactor.of(optimizer) if config.training.reduce_on_plateau else None
    network.compile(optimizer, losses, loss_weights=weights, jit_compile=use_xla())
    # Built here, its variables are not made while the step is traced, which would trace everything twice.
    network.optimizer.build(network.trainable_variables)
    return network, plateau


def _say_what_is_trained(
    config: Config, network: keras.Model, sources: Mapping[str, Source], steps: int, console: Console
) -> None:
    console.print(
        f"{config.model.decoder} on {config.model.backbone}: {network.count_params():,} parameters, "
        f"{len(sources['train'])} training and {len(sources['val'])} validation samples, {steps} steps an epoch. "
        f"{network.weights_report}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if note := precision_note(config.training.precision):
        console.print(f"[yellow]Warning:[/] {note}", highlight=False, soft_wrap=True)


@contextmanager
def _shown_warnings(console: Console) -> Iterator[None]:
    """Show what the block warns of on the console, in one line each: it is meant for whoever started the run."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if issubclass(warning.category, DamagedStateWarning | OriginWarning):
            console.print(f"[yellow]Warning:[/] {escape(str(warning.message))}", highlight=False, soft_wrap=True)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _class_pixels(config: Config, folder: RunFolder, source: Source, console: Console) -> ClassPixels | None:
    """Count the training split's pixels where class weights are made from them, or take the run folder's counts."""
    schemes = assemble.weight_schemes(config)
    if not schemes:
        return None
    counted = ClassPixels.read(folder.class_pixels) if folder.class_pixels.is_file() else None
    if counted is None or counted.fingerprint != source.fingerprint():
        console.print(f"Counting the pixels of each class in {len(source)} training samples ...", highlight=False)
        counted = ClassPixels.of(source, config.data.workers)
    for name, weights in assemble.class_weights(config, counted).items():
        numbers = ", ".join(f"{weight:.3g}" for weight in weights)
        console.print(f"Class weights of {name}, {schemes[name]}: {numbers}", highlight=False, soft_wrap=True)
    return counted
