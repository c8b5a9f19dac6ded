"""Conversion of a reference network to a backbone: preprocessing, any input size, dilation, cut at the deepest tap."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from segzoo.backbones import reference
from segzoo.backbones.options import BackboneOptions
from segzoo.backbones.spec import REFERENCE_DROP_PATH, Pixels, Variant
from segzoo.backbones.table import BACKBONES
from segzoo.compat import SMP, SMP_0_1_0
from segzoo.errors import SegzooError, unknown_name
from segzoo.initial_values import drawn_in_blocks
from segzoo.layers import (
    AtrousConv2D,
    AveragePooling2D,
    BatchNormalization,
    CentredMaxPooling2D,
    DepthwiseConv2D,
    DilatedPooling2D,
    GroupedConv2D,
    LayerScale,
    PixelNormalization,
    SimplePyramid,
    TransformerBlock,
    WindowBlock,
    light,
    light_gelu,
    tanh_gelu,
)
from segzoo.levels import MADE, check_list
from segzoo.weights import WeightsReport, apply_weights, as_text


def create(
    name: str, options: BackboneOptions | None = None, *, levels: Sequence[str] | None = None, **given: Any
) -> keras.Model:
    """Build a backbone: a model from images `(B, H, W, C)`, pixels 0..255 and any H and W, to a dict of features.

    Feature "Pn" is `(B, ceil(H / 2^n), ceil(W / 2^n), channels)`. A plain vision transformer with patches of p pixels
    returns tokens: "T1" to "T4", `(B, ceil(H / p), ceil(W / p), channels)`, and "T1_prefix" to "T4_prefix"; or, where
    they are in `levels`, P2 to P5, which a `SimplePyramid` makes of T4. Layers of the others have the same names as in
    keras.applications, keras-cv or keras-hub; the network is cut at the deepest tap in use.

    Args:
        name: registered name, see `segzoo.backbones.names()`.
        options: see `BackboneOptions`; None: its defaults.
        levels: features to return, such as "P1" to "P5"; by default all that exist at the output stride. At output
            stride 16 there is also "C4": the fourth stage, P4 of the network without dilation.
        **given: options by name, which take precedence over `options`: `taps`, `output_stride`, `weights`,
            `input_channels`, `mean`, `std`, `drop_path`, `trainable`, `batch_norm` and `compat`.

    Raises:
        UnknownNameError: an unknown backbone, option, kind of taps, level or preset.
        MissingPackageError: keras-cv or keras-hub, which builds the backbone, is not installed.
        SegzooError: an output stride other than 8, 16 and 32, or one that the network does not support; an invalid
            option, see `BackboneOptions`.
        WeightsError: weights that are unavailable or do not match.

    Example:
        >>> features = segzoo.backbones.create("resnet50", output_stride=16)(images)
    """
    variant: Variant = BACKBONES[name]
    options = BackboneOptions.of(options).changed(given)
    compat, trainable = options.compat, options.trainable
    taps = variant.default_taps(compat) if options.taps is None else options.taps
    output_stride = 32 if options.output_stride is None else options.output_stride
    shown = variant.levels(taps, output_stride)
    available = {**shown, **variant.inner_levels(taps, output_stride)}
    fourth = "P4" if output_stride == 32 else "C4"
    if compat in (SMP, SMP_0_1_0) and variant.smp_fourth and fourth in available:
        available[fourth] = dataclasses.replace(available[fourth], layer=variant.smp_fourth)
    if levels is not None:
        check_list("levels", levels)
    levels = tuple(levels or shown)
    for level in levels:
        if level not in available:
            raise unknown_name(f"level of {name} at output stride {output_stride}", level, available)
    if isinstance(trainable, str) and trainable not in available:
        raise unknown_name(f"level of {name} to train from", trainable, available)

    network = reference.structure(variant)
    names = reference.names(network)
    operations = {names[id(operation)]: operation for operation in network.operations}
    ends = {level: operations[available[level].layer].output for level in levels}
    frozen = set()
    if isinstance(trainable, str):
        begin = reference.part(network, operations[available[trainable].layer].output)
        frozen = {names[id(operation)] for operation in reference.flat(begin)}
    elif not trainable:
        frozen = set(names.values())

    images = keras.Input((None, None, options.input_channels), name="image")
    pixels = pixel_normalization(variant.pixels, options.input_channels, options.mean, options.std)
    copy = _Copy(variant, images, pixels(images), names, output_stride, options, frozen)
    copy.count_blocks(network)
    with drawn_in_blocks():
        clone = keras.models.clone_model(
            reference.part(network, ends), input_tensors=images, clone_function=lambda layer: layer, call_function=copy
        )
        # Outputs must be a dict by level again: the clone keeps the structure of the reference's outputs.
        features = _with_pyramid(clone.output, images, variant.patch) if variant.patch else clone.output
    model = keras.Model(images, features, name=variant.name)
    model.built_with = {"taps": taps, "output_stride": output_stride, "compat": compat}
    apply_weights(model, as_text(options.weights), backbone=variant)
    freeze_statistics(model, options.batch_norm, model.weights_report)
    return model


def freeze_statistics(backbone: keras.Model, batch_norm: str, report: WeightsReport) -> None:
    """Freeze all batch normalisation of a backbone, statistics and parameters, where its option says so.

    What was decided is recorded as `backbone.batch_norm`, "train" or "frozen".

    Args:
        backbone: a backbone made by `create`.
        batch_norm: "auto", "train" or "frozen", see `BackboneOptions`.
        report: what was loaded, into the backbone or a model that contains it.
    """
    own = {layer.name for layer in backbone.layers}
    is_loaded = any(name.partition("/")[0] in own for name in report.loaded)
    if batch_norm == "auto":
        batch_norm = "frozen" if is_loaded else "train"
    backbone.batch_norm = batch_norm
    if batch_norm == "frozen":
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False


def _with_pyramid(features: Mapping[str, Any], images: keras.KerasTensor, patch: int) -> dict[str, Any]:
    """Make levels of a pyramid, which stand for the tokens that they are made of, from these; the rest is as it was."""
    levels = [level for level in features if level in MADE]
    made = SimplePyramid(patch, levels, name="simple_pyramid")(features[levels[0]], images) if levels else {}
    return {**features, **made}


def pixel_normalization(
    pixels: Pixels, channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> PixelNormalization:
    """Return the preprocessing layer for images of `channels`; `mean` and `std`, in pixel values, override `pixels`.

    Raises:
        SegzooError: only one of the two is given, a length differs from `channels`, or a std is not positive.
    """
    if (mean is None) != (std is None):
        raise SegzooError("mean and std are given together or not at all.")
    if mean is not None and std is not None:
        if len(mean) != channels or len(std) != channels:
            raise SegzooError(f"mean has {len(mean)} and std {len(std)} numbers for images of {channels} channels.")
        if min(std) <= 0:
            raise SegzooError(f"std must be above 0 in every channel, got {list(std)}.")
        return PixelNormalization(1.0, mean, std, name="preprocessing")

    def spread(values: Sequence[float]) -> list[float]:
        if channels == 1:
            return [sum(values) / len(values)]
        return [values[channel % len(values)] for channel in range(channels)]

    return PixelNormalization(pixels.scale, spread(pixels.mean), spread(pixels.std), name="preprocessing")


class _Copy:
    """Copy a reference network layer by layer with the changes of a backbone, and track the properties of tensors.

    The changes: pixel normalisation, "same" padding where the reference's padding fits only some sizes, dilation
    instead of strides beyond the output stride, and reproducible names.
    """

    def __init__(
        self,
        variant: Variant,
        images: keras.KerasTensor,
        pixels: keras.KerasTensor,
        names: Mapping[int, str],
        output_stride: int,
        options: BackboneOptions,
        frozen: set[str],
    ):
        self.variant = variant
        self.images = images
        self.pixels = pixels
        self.names = names
        self.output_stride = output_stride
        self.drop_path = options.drop_path
        self.frozen = frozen
        self.smp = options.compat if options.compat in (SMP, SMP_0_1_0) else None
        self.convention = variant.convention(options.compat)
        self.past_fourth = False
        self.scaled_blocks = 0
        self.all_scaled_blocks = 0
        # Tensors are kept beside what is known of them, so that their ids stay theirs.
        self.strides: dict[int, tuple[Any, int]] = {id(pixels): (pixels, 1)}
        self.padded: dict[int, tuple[Any, Any]] = {}

    def count_blocks(self, network: keras.Model) -> None:
        """Count the blocks that stochastic depth is spread over where the reference has none of it (ConvNeXt)."""
        self.all_scaled_blocks = sum(_handler(operation) is _Copy._scale for operation in network.operations)

    def __call__(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        if args and args[0] is self.images:
            args = (self.pixels, *args[1:])
        outputs = _handler(layer)(self, layer, *args, **kwargs)
        self.past_fourth |= bool(self.smp) and self.names[id(layer)] == self.variant.smp_fourth
        inputs = [self.strides[id(tensor)][1] for tensor in keras.tree.flatten(args) if id(tensor) in self.strides]
        for output in keras.tree.flatten(outputs):
            if id(output) not in self.strides:
                # The largest where branches meet: a shortcut may have lost its own pooling to dilation.
                self.strides[id(output)] = (output, max(inputs) * max(_pair(getattr(layer, "strides", 1))))
        return outputs

    def _as_it_is(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        return self._new(layer)(*args, **kwargs)

    def _in_turn(self, layer: Any, x: Any, **kwargs: Any) -> Any:
        for inner in layer.layers:
            x = self(inner, x)
        return x

    def _left_out(self, layer: Any, x: Any, **kwargs: Any) -> Any:
        return x

    def _pad(self, layer: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Pad, and keep what was padded: a kernel that reads the result may have to pad in its own way."""
        padded = self._new(layer)(x, *args, **kwargs)
        self.padded[id(padded)] = (padded, x)
        return padded

    def _normalize(self, layer: Any, x: Any, **kwargs: Any) -> Any:
        config = {key: layer.get_config()[key] for key in ("axis", "epsilon", "center", "scale")}
        config["epsilon"] = self.convention.epsilon or config["epsilon"]
        config["scale"] = self.convention.scales or config["scale"]
        return self._new(layer, config)(x)

    def _normalize_pixels(self, layer: Any, x: Any, **kwargs: Any) -> Any:
        """Normalise each pixel over its channels, with the epsilon of another library where `compat` says so."""
        epsilons, name = self.convention.layer_epsilons, self.names[id(layer)]
        epsilon = next((value for begin, value in epsilons.items() if name.startswith(begin)), layer.epsilon)
        return self._new(layer, {**layer.get_config(), "epsilon": epsilon})(x)

    def _activate(self, layer: Any, x: Any, **kwargs: Any) -> Any:
        is_exact = self.convention.exact_gelu and layer.activation is tanh_gelu
        activation = light_gelu if is_exact else light(layer.activation)
        return self._new(layer, {**layer.get_config(), "activation": activation})(x)

    def _drop(self, layer: Any, x: Any, **kwargs: Any) -> Any:
        rate, name = layer.rate * self.drop_path / REFERENCE_DROP_PATH, self.names[id(layer)]
        return self._drop_path(layer, x, rate, layer.get_config()["noise_shape"], name)

    def _scale(self, layer: Any, x: Any, **kwargs: Any) -> Any:
        """Scale a block of ConvNeXt, which gets the stochastic depth that keras.applications leaves out."""
        x = self._new(layer, {"initial": layer.init_values}, LayerScale)(x)
        self.scaled_blocks += 1
        rate = self.drop_path * (self.scaled_blocks - 1) / max(1, self.all_scaled_blocks - 1)
        return self._drop_path(layer, x, rate, (None, 1, 1, 1), f"{self.names[id(layer)]}_drop")

    def _transform(self, layer: Any, *inputs: Any, **kwargs: Any) -> Any:
        """Transform tokens or a map by a block with the stochastic depth that is asked for."""
        rate = 0.0 if self.names[id(layer)] in self.frozen else layer.drop_path * self.drop_path / REFERENCE_DROP_PATH
        return self._new(layer, {**layer.get_config(), "drop_path": rate})(*inputs)

    def _scale_and_add(self, layer: Any, x: Any, **kwargs: Any) -> Any:
        """Add a scaled branch, as Inception-ResNet does by a layer that Keras cannot read back from a file."""
        name = self.names[id(layer)]
        scaled = keras.layers.Rescaling(layer.scale, name=f"{name}_scale")(x[1])
        return keras.layers.Add(name=name)([x[0], scaled])

    def _new(self, layer: Any, config: dict[str, Any] | None = None, kind: Any = None) -> Any:
        """Return a layer with the name of the reference layer, frozen if required.

        Args:
            layer: the reference layer or operation.
            config: configuration of the new layer; by default that of `layer`.
            kind: class of the new layer; by default segzoo's replacement of the layer's class, or that class itself.
        """
        config = {**(layer.get_config() if config is None else config), "name": self.names[id(layer)]}
        if isinstance(layer, keras.layers.Layer):
            config["dtype"] = keras.config.dtype_policy()
        new = (kind or _nearest(_OWN, layer) or type(layer)).from_config(config)
        if isinstance(new, keras.layers.Layer) and self.names[id(layer)] in self.frozen:
            new.trainable = False
        return new

    def _drop_path(self, layer: Any, x: Any, rate: float, noise_shape: Any, name: str) -> Any:
        if rate == 0 or self.names[id(layer)] in self.frozen:
            return x
        return keras.layers.Dropout(rate, noise_shape=noise_shape, name=name)(x)

    def _padding(self, layer: Any, x: Any, size: int, strides: int) -> tuple[Any, str]:
        """Return the input of a convolution or pooling kernel, and its padding."""
        if size == 1:
            return x, "valid"
        if self.convention.pads_both_sides and strides > 1 and not (self.variant.centred_strides and size % 2):
            bare = self.padded[id(x)][1] if id(x) in self.padded else x
            return self._both_sides(layer, bare, size // 2 if size % 2 else 0), "valid"
        if id(x) not in self.padded:
            return x, "same"
        padded, bare = self.padded[id(x)]
        # Equal padding of both sides is kept where it says which pixels a stride hits, and right for any size. Other
        # explicit padding is right for even sizes only; "same" is equal to it there, and right for odd sizes too.
        return (padded, "valid") if self.variant.centred_strides and strides > 1 else (bare, "same")

    def _both_sides(self, layer: Any, x: Any, rows: int) -> Any:
        """Pad a map by `rows` at all sides."""
        return keras.layers.ZeroPadding2D(rows, name=f"{self.names[id(layer)]}_pad")(x) if rows else x

    def _dilated(self, layer: Any, x: Any) -> tuple[int, int]:
        """Return the remaining strides of a layer, and the dilation of its input."""
        steps = max(_pair(layer.strides))
        stride = self.strides[id(x)][1]
        if stride * steps <= self.output_stride and not (self.past_fourth and self.output_stride < 32):
            return steps, 1
        reached = stride * steps if self.smp or self.convention.dilates_strided else stride
        reached = max(reached, 32) if self.past_fourth else reached
        return max(1, self.output_stride // stride), max(1, reached // self.output_stride)

    def _own_size(self, x: Any) -> int:
        """Return the height of a map for an image of the variant's own size."""
        own, stride = self.variant.image_size, self.strides[id(x)][1]
        while stride > 1:
            own, stride = -(-own // 2), stride // 2
        return own

    def _own_padding(self, x: Any, size: int, strides: int) -> tuple[int, int]:
        """Return the rows of padding of a strided kernel, before and after, of "same" at the variant's image size.

        Zeros where the padding is left to "same": of all networks but those of segmentation_models.pytorch.
        """
        if not (self.smp and self.variant.image_size and strides > 1):
            return 0, 0
        odd = self._own_size(x) % 2
        if self.smp == SMP_0_1_0 and not odd:
            return 0, 0
        rows = size - 1 if odd else size - strides
        return rows // 2, rows - rows // 2

    def _pool(self, layer: Any, x: Any, **kwargs: Any) -> Any:
        size = max(layer.pool_size)
        strides, rate = self._dilated(layer, x)
        if size == 1 and strides == 1:
            return x
        if self._is_centred_maximum(layer, x, size, strides):
            return self._new(layer, {"pool_size": size, "strides": strides}, CentredMaxPooling2D)(x)
        x, padding = self._padding(layer, x, size, strides)
        average = isinstance(layer, keras.layers.AveragePooling2D)
        counted = average and padding == "same" and self.convention.averages_padding
        if rate > 1 and size > 1:
            config = {"pool_size": size, "dilation_rate": rate, "average": "padded" if counted else average}
            return self._new(layer, config, DilatedPooling2D)(x)
        if counted:
            x, padding = self._both_sides(layer, x, size // 2), "valid"
        return self._new(layer, {**layer.get_config(), "strides": strides, "padding": padding})(x)

    def _is_centred_maximum(self, layer: Any, x: Any, size: int, strides: int) -> bool:
        """Return True for a maximum over odd windows that are padded at both sides, which must not be with zeros."""
        maximum = isinstance(layer, keras.layers.MaxPooling2D)
        return bool(
            maximum and self.convention.pads_both_sides and strides > 1 and size % 2 and id(x) not in self.padded
        )

    def _convolve(self, layer: Any, x: Any, **kwargs: Any) -> Any:
        size = max(layer.kernel_size)
        strides, rate = self._dilated(layer, x)
        rate = rate if size > 1 else 1
        x, padding = self._padding(layer, x, size, strides)
        before, after = self._own_padding(x, size, strides)
        if rate > 1 and size % 2 == 0:
            # "Same" would shift an even kernel by half its width, which dilation makes whole pixels.
            before, after = 0, (size - 1) * rate
        if after:
            sides = ((before, after), (before, after))
            x = keras.layers.ZeroPadding2D(sides, name=f"{self.names[id(layer)]}_pad")(x)
            padding = "valid"
        config = {**layer.get_config(), "strides": strides, "dilation_rate": rate, "padding": padding}
        if getattr(layer, "groups", 1) > 1 and layer.groups == layer.filters == x.shape[-1]:
            # A convolution in as many groups as channels has no gradient on TensorFlow's CPU; this is the same.
            same = ("kernel_size", "strides", "padding", "dilation_rate", "activation", "use_bias")
            return self._new(layer, {key: config[key] for key in same}, DepthwiseConv2D)(x)
        plain = type(layer) is keras.layers.Conv2D
        kind = GroupedConv2D if plain and layer.groups > 1 else AtrousConv2D if plain and rate > 1 else None
        return self._new(layer, config, kind)(x)


# Reference layer to what is called in its place, for subclasses too; all others are called as they are. A name stands
# for a class that Keras keeps to itself.
_HANDLERS: dict[type | str, Callable[..., Any]] = {
    keras.Sequential: _Copy._in_turn,
    keras.layers.Rescaling: _Copy._left_out,  # the preprocessing is ours
    keras.layers.Normalization: _Copy._left_out,
    keras.layers.ZeroPadding2D: _Copy._pad,
    "Pad": _Copy._pad,
    keras.layers.MaxPooling2D: _Copy._pool,
    keras.layers.AveragePooling2D: _Copy._pool,
    keras.layers.Conv2D: _Copy._convolve,
    keras.layers.DepthwiseConv2D: _Copy._convolve,
    keras.layers.SeparableConv2D: _Copy._convolve,
    keras.layers.BatchNormalization: _Copy._normalize,
    keras.layers.LayerNormalization: _Copy._normalize_pixels,
    keras.layers.Activation: _Copy._activate,
    keras.layers.Dropout: _Copy._drop,
    TransformerBlock: _Copy._transform,
    WindowBlock: _Copy._transform,
    "LayerScale": _Copy._scale,
    "CustomScaleLayer": _Copy._scale_and_add,
}
# Class of a reference layer to segzoo's own, which computes the same.
_OWN: dict[type, type] = {
    keras.layers.AveragePooling2D: AveragePooling2D,
    keras.layers.BatchNormalization: BatchNormalization,
    keras.layers.DepthwiseConv2D: DepthwiseConv2D,
}


def _handler(layer: Any) -> Callable[..., Any]:
    """Return the method of `_Copy` that a layer or operation of a reference network goes to."""
    return _nearest(_HANDLERS, layer) or _Copy._as_it_is


def _nearest(table: Mapping[Any, Any], layer: Any) -> Any:
    """Return what a table has for a layer's nearest class, by the class or its name; None where it has nothing."""
    keys = (key for kind in type(layer).__mro__ for key in (kind, kind.__name__))
    return next((table[key] for key in keys if key in table), None)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
