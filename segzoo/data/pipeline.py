"""Input pipeline: samples are read and augmented by threads into NumPy batches, in an order independent of timing.

It is built on grain, which needs no deep-learning framework: the same batches feed TensorFlow, JAX and torch. It is 1.2
to 1.7 times as fast as the same work as a tf.data `numpy_function` (benchmarks/pipeline.py, docs/results.md).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import cv2
import numpy as np

from segzoo.backend import backend_name
from segzoo.data.augmentation import Augmentation
from segzoo.data.batch_transforms import BatchTransforms
from segzoo.data.crop import Crop
from segzoo.data.sources import Sample, Size, Source
from segzoo.errors import ConfigError, DataError
from segzoo.lazy import absent


def _unused_by_grain() -> tuple[str, ...]:
    """Return what grain would import for its profiler and its own trees, where another backend than JAX computes."""
    try:
        return () if backend_name() == "jax" else ("jax",)
    except ConfigError:  # settings of Keras that nothing here reads
        return ("jax",)


_absl = logging.getLogger("absl")
_level = _absl.level
_absl.setLevel(logging.ERROR)  # grain warns on import that it cannot profile where there is no JAX
with absent(*_unused_by_grain()):
    import grain
_absl.setLevel(_level)

_TRIED = 2  # copies of a sample that `TrainBatches.rehearse` makes at most
_NAMED = 5  # sizes that a message lists
_ENDLESS = 2**62  # the length of a data set that repeats for ever
_AUTO_SAMPLES, _AUTO_PIXELS = 8, 2**20  # of an evaluation's batch; U-Net on EfficientNet-B0 takes 0.5 GB for them
_WAITING_BATCHES, _WAITING_PIXELS = 32, 2**24  # at most, for others of their size; with masks at most 70 MB
_EVAL_SEED = 0  # evaluation transforms should not be random; if they are, they are the same every time


class TrainBatches:
    """Endless shuffled, augmented batches, the same whatever the number of workers and wherever they start.

    The order is a function of (seed, epoch), crop and augmentation of (seed, epoch, sample, which of its copies), batch
    transforms of (seed, epoch, step). The samples left over at the end of an epoch are dropped (others in every epoch);
    a source smaller than one batch is repeated to fill it.

    Args:
        source: source of the samples.
        batch_size: samples per batch.
        seed: at least 0.
        augmentation: applied to every sample; it must bring all to one size.
        workers: threads that make batches ahead; 0 makes each when it is asked for.
        target: makes of each augmented mask what the loss is given in its place, or a dict of what several losses are
            given; None leaves the mask.
        crop: taken of every sample before it is augmented, so that transforms work on fewer pixels.
        factors: how often each sample comes in an epoch, above 0 and as a mean over epochs where it is no whole number;
            None: once.
        image_type: number type of the images of all batches; None: that which its samples have in common. Where some
            samples are uint8 and others float32, batches would be of either.
        rows: places of a batch that are returned, where several processes make a batch together; None: all. A sample's
            place and augmentation are the same whoever makes it. With batch transforms every process makes the whole
            batch, since any sample may become part of any other.
        batch_transforms: applied to each batch, with (seed, epoch, step of the epoch) as the source of chance.

    Attributes:
        steps_per_epoch: batches in one epoch, at least 1.

    Raises:
        DataError: an empty source, a batch size below 1, or a number of factors other than that of the samples.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        workers: int = 2,
        target: Callable[[np.ndarray], Any] | None = None,
        crop: Crop | None = None,
        factors: Sequence[float] | np.ndarray | None = None,
        rows: range | None = None,
        batch_transforms: BatchTransforms | None = None,
        image_type: type[np.generic] | None = None,
    ):
        if len(source) == 0 or batch_size < 1:
            raise DataError(f"batches of {batch_size} from {len(source)} sample(s): both must be at least 1.")
        if factors is not None and (len(factors) != len(source) or not min(factors) > 0):
            raise DataError(f"{len(factors)} factors for {len(source)} samples: each needs one above 0.")
        self.source = source
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation
        self.workers = workers
        self.target = target
        self.crop = crop
        self.batch_transforms = batch_transforms
        self._factors = None if factors is None else np.asarray(factors, np.float64)
        self._length = len(source) if self._factors is None else max(1, round(self._factors.sum()))
        self.image_type = image_type
        self.rows = range(batch_size) if rows is None else rows
        self.steps_per_epoch = max(1, self._length // batch_size)
        self._last_order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def batches(self, start_step: int = 0) -> Iterator[tuple[np.ndarray, Any]]:
        """Iterate for ever over (images (B, H, W, 3) uint8, masks (B, H, W) integers), from step `start_step`.

        With `target`, its results (B, ...) are in the masks' place, or a dict of them; with batch transforms masks can
        be shares of classes, see `segzoo.data.BatchTransform`.

        Step s belongs to epoch s // steps_per_epoch. Starting at s gives what iterating to s would have given.

        Raises:
            DataError: when a sample cannot be read, or those of one batch differ in size (message with the cure).
        """
        return _in_order(lambda step: self.batch(start_step + step), _ENDLESS, self.workers)

    def batch(self, step: int) -> tuple[np.ndarray, Any]:
        """Make the batch of one step (0, 1, ...) in this thread: (B, H, W, 3) uint8 and (B, H, W) integers."""
        samples = self.samples(step)
        _check_sizes((sample.id, sample.image.shape[:2]) for sample in samples)
        images = np.stack([sample.image for sample in samples])
        images = images if self.image_type is None else images.astype(self.image_type, copy=False)
        return images, stacked([self._target(sample) for sample in samples])

    def samples(self, step: int, mixed: bool = True) -> list[Sample]:
        """Make the samples of one step's batch (0, 1, ...), cropped, augmented and, if wanted, mixed."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        first = position * self.batch_size
        samples = []
        is_whole = mixed and self.batch_transforms is not None
        for row in range(self.batch_size) if is_whole else self.rows:
            place = first + row
            index = int(order[place])
            copy = int(np.count_nonzero(order[:place] == index))  # not 0 where a sample comes again in the epoch
            samples.append(self.sample(index, epoch, copy))
        if not is_whole:
            return samples
        batch = self.mixed(samples, epoch, position)
        return [batch[row] for row in self.rows]

    def mixed(self, samples: Sequence[Sample], epoch: int, position: int) -> list[Sample]:
        """Apply the batch transforms to samples of one size, as to the batch at a position (0, 1, ...) of an epoch.

        Raises:
            DataError: samples of several sizes, or a transform that fails.
        """
        if self.batch_transforms is None:
            return list(samples)
        _check_sizes((sample.id, sample.image.shape[:2]) for sample in samples)
        images, masks = (np.stack([sample[part] for sample in samples]) for part in (0, 1))
        images, masks = self.batch_transforms(images, masks, (self.seed, epoch, position))
        return [Sample(image, mask, old.id) for image, mask, old in zip(images, masks, samples, strict=True)]

    def sample(self, index: int, epoch: int, copy: int = 0) -> Sample:
        """Make sample `index` of an epoch (0, 1, ...) at its `copy`-th repetition there (0, 1, ...)."""
        return self._prepared(self.source[index], index, epoch, copy)

    def rehearse(self, index: int, sample: Sample) -> list[Size]:
        """Crop and augment a sample that was read from place `index` as in the first epoch, mix it and make its target.

        Where it comes there several times (`factors`, a source smaller than a batch), twice: enough to tell whether its
        size is the same each time.

        Returns:
            (height, width) of each.

        Raises:
            DataError: a transform fails on a sample, or the loss cannot make its target.
        """
        times = int(np.count_nonzero(self._order(0) == index)) if len(self._order(0)) > len(self.source) else 1
        prepared = [self._prepared(sample, index, 0, copy) for copy in range(min(max(1, times), _TRIED))]
        for made in prepared:
            self._target(self.mixed([made, made], 0, 0)[0])
        return [made.image.shape[:2] for made in prepared]

    def check_sizes(self, sizes: Mapping[int, Sequence[Size]], one_size: bool) -> None:
        """Check that samples of these sizes can share batches, whatever the order that they come in.

        Args:
            sizes: index of each sample to what `rehearse` returned.
            one_size: whether all batches must have the size that the first two have, see `check_size`.

        Raises:
            DataError: the sizes differ; the message names samples of different sizes.
        """
        if self.batch_size > 1:
            _check_sizes((self.source.ids[index], size) for index, found in sizes.items() for size in found)
        elif one_size and len(sizes) > 1:
            found = [(index, sizes[index][0]) for index in self._order(0).tolist() if index in sizes]
            expected = size_of_all(found[0][1], found[1][1])
            for index, size in found:
                check_size(expected, size, self.source.ids[index])

    def _target(self, sample: Sample) -> Any:
        """Return the loss's target for a sample's mask; DataError if it cannot be made."""
        if self.target is None:
            return sample.mask
        try:
            return self.target(sample.mask)
        except DataError as error:
            raise DataError(f"sample {sample.id}: {error}", error.kind) from error

    def _prepared(self, sample: Sample, index: int, epoch: int, copy: int) -> Sample:
        """Crop and augment a sample with the seeds of its place, epoch and copy."""
        if self.augmentation is None and self.crop is None:
            return sample
        seeds = np.random.SeedSequence([self.seed, epoch, index, copy]).generate_state(2, np.uint64)
        if self.crop is not None:
            sample = Sample(*self.crop(sample.image, sample.mask, int(seeds[1])), sample.id)
        return sample if self.augmentation is None else _augment(sample, self.augmentation, int(seeds[0]))

    def _order(self, epoch: int) -> np.ndarray:
        """Return the sample indices of an epoch; threads may compute it twice, never differently."""
        known, order = self._last_order
        if known != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            rounds = math.ceil(self.batch_size / self._length)
            order = np.concatenate([self._round(rng) for _ in range(rounds)])
            self._last_order = (epoch, order)
        return order

    def _round(self, rng: np.random.Generator) -> np.ndarray:
        """Return `_length` sample indices in random order, each as often as its factor says."""
        count = len(self.source)
        if self._factors is None:
            return rng.permutation(count)
        # Systematic sampling: a sample comes the whole number below its factor or once more, in the long run as often
        # as the factor, and the sum is the same in every epoch. The shuffle makes the choices independent of the order.
        shuffled = rng.permutation(count)
        ends = np.cumsum(self._factors[shuffled]) * (self._length / self._factors.sum())
        ends[-1] = self._length
        times = np.diff(np.floor(ends + rng.random()), prepend=0).astype(np.int64)
        return rng.permutation(np.repeat(shuffled, times))


class EvalBatches:
    """Every sample once; samples of one size share a batch, whatever comes between them in the source.

    A sample waits for others of its size while not too many wait (32 batches of samples, or 2^24 pixels). So samples of
    several sizes do not come in the source's order, which `ids` gives, but in the same order every time.

    Args:
        source: source of the samples.
        batch_size: most samples per batch. "auto": 8, and no more than have 2^20 pixels together, such as 4 of 512x512
            or one of 1024x1024, as memory follows the pixels.
        workers: threads that read ahead; 0 reads each sample when it is asked for.
        augmentation: applied to every sample; meant for what is not random, such as Resize.
        part: (index, count) where several processes share the samples: of blocks of a batch's samples every count-th
            from index on, so that samples of one size share the batches that they would share without it.

    Attributes:
        ids: ids of all samples in the source's order.

    Raises:
        DataError: a batch size below 1.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int | Literal["auto"] = 1,
        workers: int = 2,
        augmentation: Augmentation | None = None,
        part: tuple[int, int] = (0, 1),
    ):
        most = _AUTO_SAMPLES if batch_size == "auto" else batch_size
        if most < 1:
            raise DataError(f"batch_size={batch_size} must be at least 1.")
        self.source = source
        self.batch_size = batch_size
        self.workers = workers
        self.augmentation = augmentation
        self._most = most
        index, count = part
        self.indices = [sample for sample in range(len(source)) if sample // most % count == index]

    @property
    def ids(self) -> list[str]:
        """Ids of all samples, or of those of this process, in the source's order."""
        return [self.source.ids[index] for index in self.indices]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
        """Iterate over (images (B, H, W, 3) uint8, masks (B, H, W) integers, ids); DataError as the source raises."""
        waiting: dict[tuple[int, ...], list[Sample]] = {}  # by shape, the one whose first sample came first in front
        count = pixels = 0
        for sample in _in_order(self._read, len(self.indices), self.workers):
            shape = sample.image.shape
            waiting.setdefault(shape, []).append(sample)
            count, pixels = count + 1, pixels + _pixels(shape)
            due = shape if len(waiting[shape]) == self._samples_of(shape) else None
            many = count > _WAITING_BATCHES * self._most or pixels > _WAITING_PIXELS
            if due is None and many and len(waiting) > 1:
                due = next(iter(waiting))
            if due is not None:
                batch = waiting.pop(due)
                count, pixels = count - len(batch), pixels - len(batch) * _pixels(due)
                yield _stack(batch)
        yield from map(_stack, waiting.values())

    def rehearse(self, index: int, sample: Sample) -> list[Size]:
        """Augment a sample as the evaluation does; returns its (height, width), DataError where a transform fails."""
        return [self._prepared(sample).image.shape[:2]]

    def _samples_of(self, shape: tuple[int, ...]) -> int:
        """Return the most samples of a batch of this shape."""
        return max(1, min(self._most, _AUTO_PIXELS // _pixels(shape))) if self.batch_size == "auto" else self._most

    def _read(self, position: int) -> Sample:
        return self._prepared(self.source[self.indices[position]])

    def _prepared(self, sample: Sample) -> Sample:
        return sample if self.augmentation is None else _augment(sample, self.augmentation, _EVAL_SEED)


def _pixels(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[1]


def _in_order(make: Callable[[int], Any], count: int, workers: int) -> Iterator[Any]:
    """Yield make(0), make(1), ... make(count - 1), computed ahead by `workers` threads.

    An exception in a thread is raised here, at the place of its item. OpenCV's own threads are switched off: with
    several workers they only contend for the same cores.
    """
    if workers < 1:
        yield from (make(index) for index in range(count))
        return
    cv2.setNumThreads(0)
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    yield from grain.MapDataset.range(count).map(make).to_iter_dataset(options)


def _augment(sample: Sample, augmentation: Augmentation, seed: int) -> Sample:
    try:
        image, mask = augmentation(sample.image, sample.mask, seed)
    except DataError as error:
        raise DataError(f"sample {sample.id}: {error}", "augmentation") from error
    return Sample(image, mask, sample.id)


def stacked(targets: Sequence[Any]) -> Any:
    """Stack arrays, or dicts of arrays by their keys."""
    if isinstance(targets[0], Mapping):
        return {name: np.stack([target[name] for target in targets]) for name in targets[0]}
    return np.stack(targets)


def _stack(samples: list[Sample]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    return np.stack([s.image for s in samples]), np.stack([s.mask for s in samples]), [s.id for s in samples]


def size_of_all(first: Size, second: Size) -> Size | None:
    """Return the (height, width) that all batches of a run must have, as its first two; None where these differ.

    Under TensorFlow a training step is traced for one size, or for any.
    """
    return first if first == second else None


def check_size(expected: Size | None, found: Size, name: str = "") -> None:
    """Raise DataError for a batch of another size than that of all, `size_of_all`; `name`: the sample in it."""
    if expected is not None and found != expected:
        raise DataError(
            f"The first training batches are {expected[0]}x{expected[1]} pixels, a later one is "
            f"{found[0]}x{found[1]}{f' ({name})' if name else ''}. Give all samples one size: add Resize or "
            "PadIfNeeded and RandomCrop to data.augment.",
            "batch",
        )


def _check_sizes(named: Iterable[tuple[str, Size]]) -> None:
    """Raise DataError unless the samples of a batch, (id, size), have one size."""
    by_size: dict[Size, str] = {}
    for name, size in named:
        by_size.setdefault(size, name)
    if len(by_size) > 1:
        sizes = [f"{name} is {size[1]} x {size[0]}" for size, name in by_size.items()]
        more = f" and {len(sizes) - _NAMED:,} more sizes" if len(sizes) > _NAMED else ""
        raise DataError(
            f"The samples of one batch differ in size (width x height): {', '.join(sizes[:_NAMED])}{more}. Bring all "
            "to one size in data.augment: PadIfNeeded and RandomCrop, or Resize.",
            "batch",
        )
