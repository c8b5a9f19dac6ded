"""Builders of the components of a run from a Config: sources, batches, network, loss, optimizer."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from segzoo import data, losses
from segzoo.backend import dtype_policy
from segzoo.config import Config, FolderData
from segzoo.data import MASK_FORMATS, Source
from segzoo.data.sources import Size, may_give_float
from segzoo.engine.callbacks.stages import Stage, Stages
from segzoo.engine.class_pixels import ClassPixels
from segzoo.errors import DataError
from segzoo.models.build import LOGITS, PRESENCE, build_model
from segzoo.optim import SCHEDULES, optimizers
from segzoo.optim.param_groups import rate_factors
from segzoo.optim.schedules import OneCycle, WarmUpDecay

_BACKGROUND_NAMES = frozenset({"background", "bg", "unlabeled", "unlabelled", "void", "none"})

#: Values of training.precision to what Keras calls them.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def build_source(config: Config, split: str, strict: bool = True) -> Source:
    """Build the source of the "train", "val" or "test" split; `strict` as in `FolderSource`.

    With `training.overfit` "train" and "val" are the same few of the former.

    Raises:
        DataError: samples that cannot be used, or no test split.
    """
    if config.training.overfit is not None and split != "test":
        return few(whole_source(config, "train", strict), config.training.overfit)
    return whole_source(config, split, strict)


def few(source: Source, count: int) -> Source:
    """Return `count` samples spread evenly over the source, as neighbours look alike; DataError if it has fewer."""
    if count > len(source):
        raise DataError(f"training.overfit is {count}, but the training split has {len(source)} sample(s).")
    return data.Subset(source, np.linspace(0, len(source) - 1, count).round().astype(int).tolist())


def whole_source(config: Config, split: str, strict: bool = True) -> Source:
    """Build the source of a split without `training.overfit`; `strict` as in `FolderSource`.

    Raises:
        DataError: samples that cannot be used, or no test split.
    """
    section = config.data
    if section.split is None or (split == "test" and section.test_split is not None):
        if split == "test" and section.test_split is None:
            raise _no_test_split()
        return _stored(config, split, strict=strict)
    # A list of images and masks is a source by itself, whatever folders they lie in.
    pairs = _listed_pairs(config).get(split)
    if pairs is not None:
        return _stored(config, None, pairs)
    dealt = _dealt(config, strict)
    if split not in dealt:
        raise _no_test_split()
    return dealt[split]


def has_test_split(config: Config) -> bool:
    """Return True if the configuration, or the CSV file that it names, has a test split."""
    section, split = config.data, config.data.split
    if section.test_split is not None:
        return True
    if split is None:
        return False
    if split.csv is not None and split.fraction is None and split.fold is None and split.train is None:
        return "test" in _dealt(config, strict=False)
    return split.test is not None or split.test_fraction is not None


def _no_test_split() -> DataError:
    return DataError(
        "There is no test split. Name one: data.test_split, a folder in data.root; or in data.split test, a list of "
        "samples, test_fraction, a share of them, or test in the column split of the csv. With an older run: "
        "segzoo evaluate RUN --split test --set data.test_split=test."
    )


def _listed_pairs(config: Config) -> dict[str, list[data.Pair] | None]:
    """Return the images and masks in the lists of `data.split`; None for a list of ids, nothing without lists."""
    settings = config.data.split
    if settings is None or settings.train is None or settings.val is None or not isinstance(config.data, FolderData):
        return {}
    root = Path(config.data.root)
    lists = {"train": settings.train, "val": settings.val, **({"test": settings.test} if settings.test else {})}
    pairs = {name: data.listed_pairs(Path(path), root) for name, path in lists.items()}
    for one, other in itertools.combinations(lists, 2):
        first, second = pairs[one], pairs[other]
        if first is not None and second is not None:
            data.refuse_common(first, second, (lists[one], lists[other]))
    return pairs


def _dealt(config: Config, strict: bool) -> Mapping[str, Source]:
    """Split a data set without split folders according to `data.split`."""
    settings = config.data.split
    assert settings is not None
    return data.split(
        _stored(config, None, strict=strict),
        fraction=settings.fraction,
        fold=(settings.fold.index, settings.fold.of) if settings.fold else None,
        train=settings.train,
        val=settings.val,
        test=settings.test,
        test_fraction=settings.test_fraction,
        csv=settings.csv,
        seed=settings.seed,
        group=settings.group,
        stratify=settings.stratify,
        workers=config.data.workers,
        strict=strict,
    )


def _stored(config: Config, split: str | None, pairs: list[data.Pair] | None = None, strict: bool = True) -> Source:
    """Build the source of the stored samples of a split; None: those of a data set without splits, or `pairs`."""
    section = config.data
    name = {"train": section.train_split, "val": section.val_split, "test": section.test_split, None: "."}[split]
    if isinstance(section, FolderData):
        return data.create_source(
            "folder",
            root=section.root,
            split=name,
            classes=section.classes,
            ignore_index=section.ignore_index,
            image_dir=section.image_dir,
            mask_dir=section.mask_dir,
            masks=mask_format(config),
            images=image_reader(config),
            image_suffix=section.image_suffix,
            mask_suffix=section.mask_suffix,
            image_prefix=section.image_prefix,
            mask_prefix=section.mask_prefix,
            exif=section.exif,
            strict=strict,
            pairs=pairs,
        )
    count = section.val_count if split in ("val", "test") else section.train_count
    return data.create_source(
        "generated",
        split=name if split else section.train_split,
        count=count,
        size=section.size,
        seed=config.seed,
        ignore_index=section.ignore_index,
    )


def mask_format(config: Config) -> data.MaskFormat:
    """Build the configured mask format."""
    section = config.data
    assert isinstance(section, FolderData)
    labels = data.Labels(tuple(section.classes), section.ignore_index, config.mode, section.max_pixels)
    options = {key: value for key, value in section.masks.items() if key != "format"}
    return data.create_format(section.masks["format"], labels, **options)


def image_reader(config: Config, alone: bool = False) -> data.ImageReader:
    """Build the image reader; `alone`, for prediction, it applies the EXIF orientation as the training source does."""
    section, channels = config.data, config.model.input_channels
    if not isinstance(section, FolderData):
        return data.ImageReader(channels)
    upright = alone and section.exif != "neither"
    return data.ImageReader(channels, section.bands, section.value_range, section.alpha, section.max_pixels, upright)


def colours(config: Config) -> np.ndarray:
    """Return one colour per class `(classes, 3)`, 0..255: the configured palette or a distinct one."""
    from segzoo.reporting.pictures import palette

    if isinstance(config.data, FolderData) and config.data.palette:
        return np.array(config.data.palette, dtype="uint8")
    return palette(len(config.task.classes))


def background(config: Config) -> int | None:
    """Return the label of the background, which pictures leave untinted; None if there is no such class."""
    names = config.task.classes
    if config.mode == "binary":
        return 0
    if isinstance(config.data, FolderData) and config.mode == "multiclass":
        stated = config.data.masks.get("background")
        if stated in names:
            return names.index(stated)
        kind = MASK_FORMATS[config.data.masks["format"]]
        if stated is None and getattr(kind, "first_is_background", False):
            return 0
    return next((label for label, name in enumerate(names) if name.strip("_ ").lower() in _BACKGROUND_NAMES), None)


def trackers(config: Config) -> dict[str, dict[str, Any]]:
    """Return the active trackers: name to settings, without those set to null."""
    return {name: settings for name, settings in config.tracking.items() if settings is not None}


def target_maker(config: Config, given: Any = None) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from a mask to the target of the configured loss, or of the one given in its place.

    A loss that is not segzoo's takes the mask itself. What is returned raises DataError where the loss fails.
    """
    if given is not None:
        loss = given if hasattr(given, "make_target") else _TakesMasks()
        return functools.partial(_made_target, loss, type(given).__name__, config.task.channels)
    terms: dict[str, Any] = dict(config.loss)
    for name in weight_schemes(config):  # made from counts that there may not be yet, and no part of a target
        terms[name] = {key: value for key, value in terms[name].items() if key != "class_weights"}
    loss = losses.create(terms, config.data.ignore_index, config.mode)
    return functools.partial(_made_target, loss, " + ".join(config.loss), config.task.channels)


class _TakesMasks:
    """Adapter for a loss of Keras, or a function, which takes masks as targets."""

    def make_target(self, mask: np.ndarray, classes: int) -> np.ndarray:
        """Return the mask as it is."""
        return mask


def training_target_maker(config: Config, given: Any = None) -> Callable[[np.ndarray], Any]:
    """Return the function from a mask to the targets of the network's outputs: an array, or arrays by output."""
    of_logits = target_maker(config, given)
    if config.model.classification is None:
        return of_logits
    of_presence = functools.partial(_made_target, _presence_loss(config), PRESENCE, config.task.channels)
    return lambda mask: {LOGITS: of_logits(mask), PRESENCE: of_presence(mask)}


def _made_target(loss: Any, name: str, classes: int, mask: np.ndarray) -> np.ndarray:
    """Let a loss make its target of a mask; integers become int32, which every backend has."""
    try:
        target = loss.make_target(mask, classes)
        return target.astype("int32", copy=False) if target.dtype.kind in "iu" else target
    except Exception as error:  # a class of the user's may raise anything
        raise DataError(
            f"the loss {name} cannot make its target of a mask {mask.shape} {mask.dtype}: "
            f"{type(error).__name__}: {error}.",
            "target",
        ) from error


def _presence_loss(config: Config) -> losses.ClassPresence:
    """Return the loss of a classification head."""
    return losses.ClassPresence(config.data.ignore_index, config.mode)


def rehearsals(config: Config, sources: Mapping[str, Source]) -> dict[str, data.Rehearsal]:
    """Build the preprocessing of each split's samples as the run does it, for `data.check_splits`."""
    one_size = keras.backend.backend() == "tensorflow"  # see `fit_dataset.FitDataset`
    found = {}
    for split, source in sources.items():
        if split == "train":  # without `oversample`, which would read all masks once more
            batches = _augmented(config, source, _repeated(config, source))
            check_sizes = functools.partial(batches.check_sizes, one_size=one_size)
            found[split] = data.Rehearsal(batches.rehearse, check_sizes, functools.partial(_check_weights, config))
        else:
            rehearse = functools.partial(_rehearsed, eval_batches(config, source), target_maker(config))
            found[split] = data.Rehearsal(rehearse)
    return found


def _rehearsed(
    batches: data.EvalBatches, target: Callable[[np.ndarray], np.ndarray], index: int, sample: data.Sample
) -> list[Size]:
    """Prepare a sample as an evaluation does, and make its target."""
    target(sample.mask)
    return batches.rehearse(index, sample)


def _check_weights(config: Config, report: data.Report) -> None:
    """Raise DataError if class weights cannot be computed from the pixel counts of the training split."""
    class_weights(config, ClassPixels(report.fingerprint, report.pixels, report.shown_in))


def train_batches(config: Config, source: Source, rows: range | None = None, loss: Any = None) -> data.TrainBatches:
    """Build the endless augmented batches of the training split, or the rows of each that this process makes.

    Their targets are those of the configured loss, or of `loss` in its place.
    """
    section = config.data
    factors = _factors(config, source)
    image_type = np.float32 if may_give_float(source) else None  # TensorFlow takes one type for all batches
    if section.disk_cache is not None:
        source = data.DiskCachedSource(source, section.disk_cache.folder, section.disk_cache.max_mb * 2**20)
    if section.cache_mb:
        source = data.CachedSource(source, section.cache_mb * 2**20)
    return _augmented(config, source, factors, rows, image_type, loss)


def _augmented(
    config: Config,
    source: Source,
    factors: np.ndarray | None,
    rows: range | None = None,
    image_type: type[np.generic] | None = None,
    loss: Any = None,
) -> data.TrainBatches:
    section = config.data
    augmentation = data.Augmentation(section.augment, section.ignore_index) if section.augment else None
    return data.TrainBatches(
        source,
        section.batch_size,
        config.seed,
        augmentation=augmentation,
        workers=section.workers,
        target=training_target_maker(config, loss),
        crop=_crop(config),
        factors=factors,
        rows=rows,
        batch_transforms=_batch_transforms(config),
        image_type=image_type,
    )


def _batch_transforms(config: Config) -> data.BatchTransforms | None:
    """Return the configured changes to whole training batches."""
    section = config.data
    if not section.batch_transforms:
        return None
    return data.BatchTransforms.of(section.batch_transforms, config.task)


def _factors(config: Config, source: Source) -> np.ndarray | None:
    """Return the repeat factor of each training sample in an epoch; None: once."""
    section = config.data
    if section.oversample is not None:
        return section.repeats * data.repeat_factors(data.presence(source, section.workers), section.oversample)
    return _repeated(config, source)


def _repeated(config: Config, source: Source) -> np.ndarray | None:
    """Return `data.repeats` as factors, the same for each training sample; None: once."""
    return None if config.data.repeats == 1 else np.full(len(source), float(config.data.repeats))


def _crop(config: Config) -> data.Crop | None:
    """Build the configured crop of training samples."""
    settings = config.data.crop
    if settings is None:
        return None
    names = config.task.classes
    fraction = settings.fraction if settings.strategy == "foreground" else 0.0
    background = tuple(names.index(name) for name in settings.background)
    return data.Crop(settings.size, config.data.ignore_index, fraction, background)


def steps_per_epoch(config: Config, of_one_pass: int | None) -> int:
    """Return the steps of an epoch: the configured number or `of_one_pass`, rounded down to whole updates.

    As with a batch `accumulate` times as large, which drops the samples that are left over too.

    Raises:
        DataError: neither says it.
    """
    steps = config.training.steps_per_epoch or of_one_pass
    if steps is None:
        raise DataError("train_data does not say how many batches an epoch has; set training.steps_per_epoch.")
    accumulate = config.training.accumulate
    return max(1, steps // accumulate) * accumulate


def eval_batches(config: Config, source: Source, part: tuple[int, int] = (0, 1)) -> data.EvalBatches:
    """Build the batches of an evaluation: every sample once, in order, or one of several processes' parts."""
    section = config.data
    transforms = None
    if section.val_transforms:
        transforms = data.Augmentation(section.val_transforms, section.ignore_index, "data.val_transforms")
    return data.EvalBatches(source, section.eval_batch_size, section.workers, transforms, part)


def build_network(config: Config, weights: str | None = None) -> keras.Model:
    """Build the network in the configured precision; `weights` overrides the configuration's."""
    section = config.model
    if weights is None and config.training.init_from is not None:
        weights = "none"  # others come: see `start`
    with dtype_policy(POLICIES[config.training.precision]):
        return build_model(
            section.decoder,
            section.backbone,
            config.task.channels,
            backbone_options=section.backbone_options(),
            weights=section.weights if weights is None else weights,
            weights_sha256=section.weights_sha256 if weights is None else None,
            auxiliary=tuple(section.auxiliary),
            classification=section.classification is not None,
            remat=config.training.remat,
            **section.options,
        )


def weight_schemes(config: Config) -> dict[str, str]:
    """Map losses with class weights computed from the training split to their scheme, such as "balanced"."""
    given = {name: term.get("class_weights") for name, term in config.loss.items() if isinstance(term, dict)}
    return {name: weights for name, weights in given.items() if isinstance(weights, str)}


def class_weights(config: Config, counted: ClassPixels) -> dict[str, list[float]]:
    """Compute the class weights of `weight_schemes`: name of the loss to one weight per class.

    Raises:
        DataError: no pixel of any class was counted.
    """
    schemes = weight_schemes(config)
    if schemes and not any(counted.pixels.values()):
        name, scheme = next(iter(schemes.items()))
        raise DataError(
            f"loss.{name}.class_weights is {scheme}, but no mask of the training split shows a pixel of any class "
            "to count. Add masks that show classes, or give class_weights as a list.",
            "class_weights",
        )
    names = config.task.classes
    pixels, shown_in = ([of[name] for name in names] for of in (counted.pixels, counted.shown_in))
    return {name: losses.class_weights(scheme, pixels, shown_in) for name, scheme in schemes.items()}


def build_loss(config: Config, counted: ClassPixels | None = None) -> keras.losses.Loss:
    """Build the configured loss or weighted sum of losses; `counted` is required for `weight_schemes`."""
    terms: dict[str, Any] = dict(config.loss)
    if counted is not None:
        for name, weights in class_weights(config, counted).items():
            terms[name] = {**terms[name], "class_weights": weights}
    return losses.create(terms, config.data.ignore_index, config.mode)


def losses_of_outputs(
    config: Config, network: keras.Model, loss: keras.losses.Loss
) -> tuple[Any, dict[str, float] | None]:
    """Return the arguments `loss` and `loss_weights` of `compile` for the network's outputs.

    A network of one output takes the configured loss; of several, every segmentation takes it with its own weight (in
    deep supervision 1, as in U-Net++'s paper), and the classification that of present classes.
    """
    if not isinstance(network.output, dict):
        return loss, None
    weights = {f"auxiliary_{level}": weight for level, weight in config.model.auxiliary.items()}
    found, scales = {}, {}
    for name in network.output:
        found[name], scales[name] = loss, weights.get(name, 1.0)
    if config.model.classification is not None:
        found[PRESENCE] = _presence_loss(config)
        scales[PRESENCE] = config.model.classification
    return found, scales


def build_schedule(config: Config, updates: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Build the configured learning-rate schedule over a run of this many updates."""
    schedule, peak = config.training.schedule, config.training.optimizer.learning_rate
    if not SCHEDULES.is_built_in(schedule.name):
        return SCHEDULES[schedule.name](peak, updates, **schedule.options)
    if schedule.name == "one_cycle":
        return OneCycle(peak, updates, schedule.rise, final_fraction=schedule.final_fraction)
    return WarmUpDecay(
        peak,
        updates,
        schedule.warmup_steps,
        schedule.name,
        schedule.power,
        schedule.final_fraction,
        schedule.milestones,
        schedule.drop,
    )


def build_optimizer(
    config: Config, steps: int, rate: keras.optimizers.schedules.LearningRateSchedule | None = None
) -> keras.optimizers.Optimizer:
    """Build the configured optimizer for a run of `steps` batches; `rate` replaces the configured schedule."""
    settings = config.training.optimizer
    accumulate = config.training.accumulate
    return optimizers.create(
        settings.name,
        build_schedule(config, max(1, steps // accumulate)) if rate is None else rate,
        settings.weight_decay,
        clip_norm=settings.clip_norm,
        clip_value=settings.clip_value,
        accumulate=accumulate,
        **settings.options,
    )


def start_optimizer(config: Config, network: keras.Model) -> None:
    """Create the variables of a compiled network's optimizer, and set the learning-rate factors of its parts."""
    settings = config.training.optimizer
    network.optimizer.build(network.trainable_variables)
    trained = set(map(id, network.trainable_variables))
    factors = rate_factors(network, dict(settings.lr_scale.items()), settings.layer_decay)
    optimizers.inner(network.optimizer).set_factors(
        [(variable, factor) for variable, factor in factors if id(variable) in trained]
    )


def build_stages(config: Config, network: keras.Model, steps: int) -> Stages:
    """Build the configured stages of a compiled network with a built optimizer, at `steps` batches per epoch."""
    settings = config.training
    stages, first_epoch = [], 0
    for section in settings.stages:
        scale = settings.optimizer.lr_scale if section.lr_scale is None else section.lr_scale
        stages.append(Stage(first_epoch, tuple(section.freeze), dict(scale.items())))
        first_epoch += section.epochs or 0
    return Stages(
        network,
        stages,
        layer_decay=settings.optimizer.layer_decay,
        updates_per_epoch=steps // settings.accumulate,
        warmup=settings.schedule.warmup_steps,
    )
