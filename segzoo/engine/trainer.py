"""Trainer: trains the model of a configuration into a run folder."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
from rich.console import Console

from segzoo.backend import collection_paused, make_deterministic, start_backend
from segzoo.compile_cache import keep_compiled_programs
from segzoo.config import Config, dump_config, resolve_config
from segzoo.config.memory import refuse_what_cannot_fit
from segzoo.data import EvalBatches, Source, TrainBatches
from segzoo.data.value_range import suggested_for
from segzoo.device import device_memory, device_name
from segzoo.engine import builders
from segzoo.engine.announcement import say_what_is_trained, shown_warnings
from segzoo.engine.artifacts import Result
from segzoo.engine.assembly import Assembly, TrainingBundle
from segzoo.engine.batched import Batched
from segzoo.engine.callbacks.stateful import is_stateful
from segzoo.engine.checkpoint import environment
from segzoo.engine.checkpoint.checkpoint_file import Stored, previous_of
from segzoo.engine.checkpoint.progress import Progress
from segzoo.engine.checkpoint.provenance import HEAD_FACTOR, differences, provenance_of
from segzoo.engine.checkpoint.run_folder import run_folder
from segzoo.engine.checkpoint.state import restore
from segzoo.engine.class_pixels import ClassPixels
from segzoo.engine.diagnosis import explain
from segzoo.engine.distribution import Distribution, start_distribution
from segzoo.engine.epochs import Epochs
from segzoo.engine.fit_dataset import Batch
from segzoo.engine.given import Given
from segzoo.engine.interrupts import Interrupts
from segzoo.engine.loop_profile import LoopProfile
from segzoo.engine.memory import device_bytes
from segzoo.engine.monitor import Monitor
from segzoo.engine.read_ahead import ReadAhead
from segzoo.engine.spread import evenly_spaced
from segzoo.engine.start import Start
from segzoo.engine.trace import Trace
from segzoo.errors import DataError, RunError, StorageError
from segzoo.terminal import LogConsole, say, warn
from segzoo.tracking import check_packages


def train(
    config: Config | str | os.PathLike[str],
    *,
    model: keras.Model | None = None,
    train_data: Any = None,
    val_data: Any = None,
    loss: Callable[[Any, Any], Any] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    resume: bool = False,
    overwrite: bool = False,
    resume_anyway: bool = False,
    profile: bool = False,
    console: Console | None = None,
) -> Result:
    """Train the model that `config` describes, or what is given instead; the run folder is `output.root/name`.

    A run that did not come to its end goes on from its state, and ends with the same bits as one that never stopped. In
    the main thread SIGTERM and SIGINT save the state and stop the run.

    Args:
        config: a configuration, a YAML file, or the name of a recipe.
        model: a functional model to train instead of the configuration's, from images `(B, H, W, C)`, pixels 0..255, to
            logits `(B, H, W, classes)`, with the weights that it has.
        train_data: instead of the configuration's training split a source of samples (`segzoo.data.Source`), which are
            cropped, augmented and batched as configured; or batches of images `(B, H, W, C)`, pixels 0..255, and masks
            `(B, H, W)`, which are trained on as they are: a `tf.data.Dataset`, a `keras.utils.PyDataset` or an
            iterable. A run is resumed only where they can be read again, with the same bits where they are the same.
        val_data: the same for the validation split.
        loss: a Keras loss or function of masks and logits instead of the configuration's.
        callbacks: Keras callbacks, called as by `fit`; `on_epoch_end` follows the evaluation, with the figures of
            metrics.csv. One with `get_state()` and `set_state(state)` is part of the run's state.
        resume: require an existing run; if finished, show its results.
        overwrite: replace what the run folder holds.
        resume_anyway: go on with a run that was started with another configuration, other data or other code.
        profile: measure where the time of the loop goes: a table on the console, in profile.json and in the summary,
            and a trace for TensorBoard. After the first step, 3 are traced, the next 20 measured; see
            docs/training.md.
        console: console on which progress is shown; by default it is logged to the logger "segzoo".

    Raises:
        RunInterruptedError: a signal asked to stop; the state is saved.
        RunError: a run folder that holds a finished run, a run of another origin, or another process's run; a state
            that cannot be read; a loss that is not finite; files that cannot be written; a given object that does not
            fit the configuration.
        DataError: samples or batches that cannot be used.
        WeightsError: unavailable weights.

    Example:
        >>> config = segzoo.load_config("unet_b3.yaml", ["name=mine"])
        >>> segzoo.train(config, train_data=my_dataset, callbacks=[keras.callbacks.CSVLogger("epochs.csv")])
    """
    console = console or LogConsole()
    config = resolve_config(config)
    given = Given.of(model, train_data, val_data, loss, tuple(callbacks))
    with collection_paused() as after_first_step:
        start_backend()
        keep_compiled_programs()
        given.check(config)
        if config.training.deterministic:
            make_deterministic()
        check_packages(config.trackers)
        distribution = start_distribution(config.training.distribution)
        given.check_distribution(distribution)
        if model is None:
            refuse_what_cannot_fit(config, on_processor=device_bytes() is None, processes=distribution.processes)
        if not distribution.is_chief:
            console = Console(quiet=True)
        with distribution.active():
            training = _Training(config, given, distribution, console, profile)
            return training.run(resume, overwrite, resume_anyway, after_first_step)


class _Training:
    """One call of `train`, step by step: what is trained on, the run folder, the network, the epochs."""

    def __init__(
        self, config: Config, given: Given, distribution: Distribution, console: Console, profile: bool = False
    ):
        self.config = config
        self.given = given
        self.distribution = distribution
        self.console = console
        self.assembly = Assembly(config, given, distribution)
        self.folder = run_folder(config, distribution.is_chief)
        self.stored: Stored | None = None
        # Of several processes the one that writes is looked at.
        self.profile = LoopProfile(Trace(self.folder.tensorboard)) if profile and self.folder.is_written else None

    def run(self, resume: bool, overwrite: bool, resume_anyway: bool, after_first_step: Callable[[], None]) -> Result:
        """Train, or show a finished run again."""
        # These come first: a start, a loss or data that cannot be used should leave no run folder behind.
        Monitor.of(self.config)
        is_begun = self.distribution.from_chief(self._holds_state)
        start = None if is_begun and not overwrite else self._start(overwrite)
        sources = {split: self._source(split) for split in ("train", "val")}
        if is_begun and not overwrite:
            self.given.check_restartable(sources)
        batches = self._train_batches(sources["train"])
        counted = self._class_pixels(batches if isinstance(batches, Batched) else batches.source)
        loss = self.given.loss or builders.build_loss(self.config, counted)
        steps = builders.steps_per_epoch(self.config, batches.steps_per_epoch)
        origin = provenance_of(
            self.config,
            {split: source.fingerprint() for split, source in sources.items()},
            self.given.facts(),
            builders.automatic(self.config, steps * self.config.training.epochs).get(HEAD_FACTOR, 1.0),
        )
        _check_alike(self.distribution.gather(origin))
        with Interrupts(self.console) as interrupts, ExitStack() as held:
            read: Callable[[int], Iterator[Batch]] = batches.batches
            if not isinstance(batches, Batched) and (overwrite or not is_begun) and self.profile is None:
                read = held.enter_context(closing(ReadAhead(read))).batches
            # Neither should weights, least of all where --overwrite would remove a run for them.
            trained = None if is_begun and not overwrite else self.assembly.build(loss, steps, start=start)
            facts = self.distribution.from_chief(lambda: self._begin(held, origin, resume, overwrite, resume_anyway))
            if counted is not None and self.folder.is_written:
                counted.write(self.folder.class_pixels)
            progress = Progress(origin=origin) if facts is None else Progress.from_json(facts)
            trained = trained or self.assembly.build(loss, steps, begun=progress if facts else None)
            if facts is not None:
                self._restore(trained, facts, progress)
            is_given = self.given.model is not None
            statistics = self.assembly.statistics(trained, batches, steps)
            say_what_is_trained(self.config, trained.network, is_given, sources, steps, self.console)
            self._say_which_start_anew(facts)
            val_batches, pictured = self._val_batches(sources["val"])
            epochs = Epochs(
                self.config,
                self.folder,
                trained,
                loss,
                steps,
                val_batches,
                self.console,
                interrupts,
                pictured=pictured,
                distribution=self.distribution,
                callbacks=self.given.callbacks,
                may_vary=isinstance(batches, Batched),
                statistics=statistics,
                after_first_step=after_first_step,
                profile=self.profile,
                why_not_finite=functools.partial(explain, self.config, trained.network, loss, batches),
            )
            is_bare = self.stored is not None and self.stored.is_bare
            is_finished = is_bare or self.distribution.from_chief(self.folder.result.is_file)
            if is_finished and epochs.is_over(progress):
                return epochs.artifacts.result(progress)
            if facts is None or progress.origin != origin:
                self._write_origin(progress, origin, trained.network)
            try:
                if self.profile is not None:
                    read = self.profile.watched(batches).batches
                return epochs.run(read, progress, self.stored)
            except StorageError as error:
                kept, then = "The state that was saved last is intact", "to go on from it"
                if not self._holds_state():
                    kept, then = "No state was saved yet", "to start anew"
                raise RunError(
                    f"{error} Training stopped after step {progress.step}. {kept}: make room, or the folder writable, "
                    f"and give the same command again {then}."
                ) from error

    def _holds_state(self) -> bool:
        states = (self.folder.state, previous_of(self.folder.state))
        return any(path.is_file() for path in states)

    def _start(self, overwrite: bool) -> Start | None:
        """Return the initial weights of `training.init_from`; refuse those that --overwrite would remove."""
        start = Start.of(self.config)
        if start is not None and overwrite and self.folder.config.is_file():
            start.check_outlives(self.folder.path)
            start.load_into(self.assembly.another_network())
        return start

    def _source(self, split: str) -> Source | Batched:
        found = self.given.data(self.config, split)
        return builders.build_source(self.config, split) if found is None else found

    def _train_batches(self, source: Source | Batched) -> TrainBatches | Batched:
        if isinstance(source, Batched):
            if note := source.scaled():
                warn(self.console, note)
            return source
        if (range_needed := suggested_for(source)) is not None:
            warn(self.console, str(range_needed))
        rows = self.distribution.rows(self.config.data.batch_size)
        return builders.train_batches(self.config, source, rows, self.given.loss)

    def _val_batches(self, source: Source | Batched) -> tuple[EvalBatches | Batched, frozenset[str]]:
        """The batches that this process evaluates, and the ids of the samples that are drawn."""
        pictures = self.config.output.pictures
        if isinstance(source, Batched):
            return source, frozenset(map(str, range(pictures)))
        part = (self.distribution.process, self.distribution.processes)
        batches = builders.eval_batches(self.config, source, part)
        return batches, evenly_spaced(batches.ids, pictures)

    def _begin(
        self, held: ExitStack, origin: dict[str, Any], resume: bool, overwrite: bool, resume_anyway: bool
    ) -> dict[str, Any] | None:
        """Lock the run folder and read its state; returns the facts of the state, None for a new run."""
        held.enter_context(self.folder.locked(resume=resume))
        with shown_warnings(self.console):
            self.stored = self.folder.begin(
                self.config, origin, resume=resume, overwrite=overwrite, resume_anyway=resume_anyway
            )
        return None if self.stored is None else self.stored.facts

    def _restore(self, trained: TrainingBundle, facts: dict[str, Any], progress: Progress) -> None:
        """Give the network the variables of the state that was read."""
        network = trained.network
        network.weights_report = progress.weights or network.weights_report  # where the run itself started from
        # All processes assign all variables, in one order: to assign one that they share is a joint act in JAX.
        self.stored = _shared(self.stored, facts, self.distribution)
        if not self.stored.is_bare:
            restore(self.stored, network, self.folder.state, trained.extra)

    def _say_which_start_anew(self, facts: dict[str, Any] | None) -> None:
        """Name the callbacks whose state a resumed run does not have."""
        if facts is None:
            return
        for callback in self.given.callbacks:
            if not is_stateful(callback):
                name = type(callback).__qualname__
                say(self.console, f"The callback {name} starts anew: it has no get_state() and set_state().")

    def _write_origin(self, progress: Progress, origin: dict[str, Any], network: keras.Model) -> None:
        """Record in the run folder what the run is now made from."""
        progress.origin = origin
        if not self.folder.is_written:
            return
        dump_config(self.config, self.folder.config)
        weights, xla = str(network.weights_report), bool(network.jit_compile)
        self.folder.write_environment(
            environment.facts(
                self.config, origin["data"], weights, device_name(), xla, self.given.facts(), device_memory()
            )
        )

    def _class_pixels(self, source: Source | Batched) -> ClassPixels | None:
        """Count the training split's pixels where class weights are made from them, or take the run folder's counts."""
        config = self.config
        schemes = {} if self.given.loss is not None else builders.weight_schemes(config)
        if not schemes:
            return None
        if isinstance(source, Batched):
            name, scheme = next(iter(schemes.items()))
            raise DataError(
                f"loss.{name}.class_weights: {scheme} counts the pixels of the training samples, and train_data yields "
                "batches. Give the weights as a list, or a source of samples."
            )

        def count() -> dict[str, Any]:
            path = self.folder.class_pixels
            counted = ClassPixels.read(path) if path.is_file() else None
            if counted is None or counted.fingerprint != source.fingerprint():
                say(self.console, f"Counting the pixels of each class in {len(source)} training samples ...")
                counted = ClassPixels.of(source, config.data.workers)
            return asdict(counted)

        counted = ClassPixels(**self.distribution.from_chief(count))
        for name, weights in builders.class_weights(config, counted).items():
            numbers = ", ".join(f"{weight:.3g}" for weight in weights)
            say(self.console, f"Class weights of {name}, {schemes[name]}: {numbers}")
        return counted


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
