"""Distributed training on the devices of one machine, or of several through JAX.

Whatever the number of devices, a step is that of one device on the whole batch: `data.batch_size` is the whole batch's,
losses are those of the whole batch, and so are the statistics of batch normalisation. So a recipe needs no other
learning rate on eight GPUs than on one.

mirrored: on TensorFlow `tf.distribute.MirroredStrategy`, a program for each device; the losses and the normalisation
layers add up their sums over them. On JAX the same as multi_host with a single process.

multi_host: one process or more on each machine, joined by `jax.distributed`. A step is one program over the whole
batch, which XLA divides (`keras.distribution.DataParallel`), so nothing in it knows of the division. Each process reads
its own rows of the batch. Process 0, the chief, alone touches the run folder; what the others need of it is sent to
them. TensorFlow's multi-worker strategy does not work under Keras 3 (keras#20601).
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from segzoo.engine.forward import Filler, Forward, with_copies
from segzoo.errors import RunError
from segzoo.extras import install_command

COORDINATOR, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
# Process 0 is waited for explicitly at the end of a run, so this is for runs that fail: how long a process that met an
# error waits for the others before it leaves, and they are ended in turn.
_SHUTDOWN_SECONDS = 60
_ASKING_SECONDS = 1.0


class Distribution:
    """Single-device strategy; base class.

    Attributes:
        devices: how many share a batch.
        processes: how many run this program together.
        process: which of them this is, from 0.
    """

    devices = 1
    processes = 1
    process = 0

    @property
    def is_chief(self) -> bool:
        """True if this process writes the run folder."""
        return self.process == 0

    def __str__(self) -> str:
        """Return a description for the user."""
        return "one device"

    def active(self) -> AbstractContextManager:
        """Return the context of the whole run."""
        return nullcontext()

    def building(self) -> AbstractContextManager:
        """Return the context in which the network is built and compiled."""
        return nullcontext()

    def synchronize(self, network: Any) -> None:
        """Synchronise the batch statistics of the normalisation layers of a network that is not yet compiled."""

    def rows(self, batch_size: int) -> range:
        """Return the rows of a batch that this process reads.

        Raises:
            RunError: the batch cannot be divided evenly over the devices.
        """
        if batch_size % self.devices:
            raise RunError(
                f"data.batch_size is {batch_size}, the whole batch of all devices, and cannot be divided evenly over "
                f"{self.devices} devices; set a multiple of {self.devices}."
            )
        own = batch_size // self.processes
        return range(self.process * own, (self.process + 1) * own)

    def predictor(self, network: Any) -> Callable[[], Any]:
        """Return a function that returns an object with `predict_on_batch` of `network`, with its current weights."""
        forward = Forward(network)
        return lambda: forward

    def gather(self, value: Any) -> list[Any]:
        """Gather the values of all processes, which must be JSON; all processes must call it."""
        return [value]

    def from_chief(self, make: Callable[[], Any]) -> Any:
        """Call `make` in process 0 only and broadcast its result, which must be JSON; all processes must call it.

        Raises:
            RunError: it raised; in process 0 what it raised itself.
        """
        return make()

    def agree(self, step: int, wishes: Sequence[str | None]) -> Sequence[str | None]:
        """Agree on requests across processes: each is that of the first process with one; all call after the same step.

        They are asked at intervals of about a second, so a wish can take that long; before, all are None.
        """
        return wishes

    def bytes_from_chief(self, make: Callable[[], bytes]) -> bytes:
        """Call `make` in process 0 only and broadcast its bytes; all processes must call it."""
        return make()

    def release(self, network: Any) -> None:
        """Undo `synchronize` on a network, so that a saved file of it loads anywhere."""


class _Mirrored(Distribution):
    """Mirrored strategy on all GPUs of this machine under TensorFlow, or all logical CPU devices without a GPU."""

    def __init__(self) -> None:
        self._strategy = _mirrored_strategy()
        self.devices = self._strategy.num_replicas_in_sync

    def __str__(self) -> str:
        return f"{self.devices} device(s) of this machine"

    def building(self) -> AbstractContextManager:
        return self._strategy.scope()

    def synchronize(self, network: Any) -> None:
        _set_synchronized(network, self.devices > 1)

    def release(self, network: Any) -> None:
        _set_synchronized(network, False)

    def predictor(self, network: Any) -> Callable[[], Any]:
        """Return a predictor whose devices process one part of a batch each; Keras would process all of it on each."""
        import tensorflow as tf

        strategy, devices = self._strategy, self.devices

        @tf.function(reduce_retracing=True)
        def predict(images: Any) -> Any:
            return strategy.run(lambda part: network(part, training=False), (images,))

        class Predictor:
            @staticmethod
            def predict_on_batch(images: np.ndarray) -> np.ndarray:
                padded = _padded(images, devices)
                parts = np.split(padded, devices)
                given = strategy.experimental_distribute_values_from_function(
                    lambda context: tf.constant(parts[context.replica_id_in_sync_group])
                )
                found = strategy.experimental_local_results(predict(given))
                return np.concatenate([part.numpy() for part in found])[: len(images)]

        return lambda: Predictor


class _Parallel(Distribution):
    """Data-parallel strategy on all JAX devices, of this process or of all processes of the job."""

    def __init__(self) -> None:
        import jax
        import keras

        self.devices = jax.device_count()
        self.processes = jax.process_count()
        self.process = jax.process_index()
        self._asked, self._asked_at, self._next_step = time.perf_counter(), -1, 0
        self._keras = keras.distribution.DataParallel(auto_shard_dataset=False)

    def __str__(self) -> str:
        return f"{self.devices} device(s) of {self.processes} process(es)"

    def active(self) -> AbstractContextManager:
        return self._keras.scope()

    def predictor(self, network: Any) -> Callable[[], Any]:
        """Return a predictor on this process's devices only: batches may differ in size and number among processes."""
        import jax

        devices = jax.local_devices()
        mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
        whole, divided = (
            jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes)) for axes in ((), ("batch",))
        )

        @jax.jit
        def predict(trained: Any, others: Any, images: Any) -> Any:
            return network.stateless_call(trained, others, images, training=False)[0]

        filler = Filler()

        class Predictor:
            def __init__(self) -> None:
                self.weights = [
                    [jax.device_put(variable.value.addressable_data(0), whole) for variable in variables]
                    for variables in (network.trainable_variables, network.non_trainable_variables)
                ]

            def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
                padded = jax.device_put(_padded(filler.fill(images), len(devices)), divided)
                return np.asarray(predict(*self.weights, padded))[: len(images)]

        return Predictor

    def gather(self, value: Any) -> list[Any]:
        if self.processes == 1:
            return [value]
        from jax.experimental.multihost_utils import process_allgather

        # As bytes: JAX would make int32 of int64.
        own = np.frombuffer(json.dumps(value).encode(), np.uint8)
        longest = int(process_allgather(np.array(own.size)).max())
        found = process_allgather(np.pad(own, (0, longest - own.size), constant_values=ord(" ")))
        return [json.loads(row.tobytes()) for row in np.asarray(found)]

    def from_chief(self, make: Callable[[], Any]) -> Any:
        result, trouble = None, None
        if self.is_chief:
            try:
                result = make()
            except Exception as error:  # the others would wait for ever
                trouble = error
        result, message = self.gather([result, None if trouble is None else str(trouble)])[0]
        if trouble is not None:
            raise trouble
        if message is not None:
            raise RunError(f"Process 0 stopped: {message}")
        return result

    def agree(self, step: int, wishes: Sequence[str | None]) -> Sequence[str | None]:
        if self.processes == 1:
            return wishes
        if step < self._next_step:
            return [None] * len(wishes)
        now = time.perf_counter()
        steps = step - self._asked_at if self._asked_at >= 0 else 0
        pace = (now - self._asked) / steps if steps else _ASKING_SECONDS  # seconds a step
        # What is sent takes milliseconds, as long as a small network's step: not after each, but by one clock.
        found = self.gather([list(wishes), max(1, min(1000, int(_ASKING_SECONDS / max(pace, 1e-9))))])
        self._asked, self._asked_at, self._next_step = time.perf_counter(), step, step + found[0][1]
        return [next(filter(None, wish), None) for wish in zip(*(wishes for wishes, _ in found), strict=True)]

    def bytes_from_chief(self, make: Callable[[], bytes]) -> bytes:
        if self.processes == 1:
            return make()
        from jax.experimental.multihost_utils import broadcast_one_to_all

        own = b""

        def measure() -> int:
            nonlocal own
            own = make()
            return len(own)

        size = self.from_chief(measure)
        sent = np.frombuffer(own, np.uint8) if self.is_chief else np.zeros(size, np.uint8)
        return np.asarray(broadcast_one_to_all(sent)).astype(np.uint8).tobytes()


def start_distribution(kind: str) -> Distribution:
    """Initialise the devices; before any computation, since JAX's processes cannot be connected later.

    Args:
        kind: "none", "mirrored" or "multi_host".

    Raises:
        RunError: the backend cannot do it, or this process does not know the others.
    """
    if kind == "none":
        return Distribution()
    import keras

    backend = keras.backend.backend()
    if kind == "mirrored" and backend == "tensorflow":
        return _Mirrored()
    if backend != "jax":
        reason = (
            "TensorFlow's multi-worker strategy does not work under Keras 3 (keras issue 20601)"
            if backend == "tensorflow"
            else "segzoo has no such way on it"
        )
        raise RunError(
            f"training.distribution: {kind} does not run on Keras's {backend} backend: {reason}. Run it on JAX: "
            f"{install_command('jax')}, and start every process with KERAS_BACKEND=jax in its environment."
        )
    if kind == "multi_host":
        _join()
    return _Parallel()


@functools.cache
def _mirrored_strategy() -> Any:
    """Return the process's only strategy: several would reuse the numbers of collectives, which TensorFlow confuses."""
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in found])


def _join() -> None:
    """Connect this process with the others of its job."""
    import jax

    if jax.distributed.is_initialized():
        return
    # JAX would take SIGTERM for itself; see `Interrupts`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        count, index = (int(os.environ[name]) if name in os.environ else None for name in (COUNT, INDEX))
        jax.distributed.initialize(
            num_processes=count, process_id=index, shutdown_timeout_seconds=_SHUTDOWN_SECONDS
        )  # the address it finds itself
    except (ValueError, RuntimeError) as error:
        raise RunError(
            f"training.distribution: multi_host cannot join the processes: {error} Under Slurm and Open MPI they find "
            f"each other; elsewhere set {COORDINATOR} (host:port of process 0), {COUNT} and {INDEX} (from 0) for each. "
            "See docs/distributed.md."
        ) from error


def _set_synchronized(network: Any, synchronized: bool) -> None:
    import keras

    from segzoo.keras_compat import all_layers

    for layer in all_layers(network):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized


def _padded(images: np.ndarray, devices: int) -> np.ndarray:
    """Pad images by repeating the last one, until they divide evenly among the devices."""
    return with_copies(images, -len(images) % devices)
