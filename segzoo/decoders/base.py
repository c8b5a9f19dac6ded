"""Base class of decoders, with the check of their levels and their common options, and the heads that follow them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from segzoo.arguments import defaults_of
from segzoo.compat import OF_0_1_0_CURE
from segzoo.errors import SegzooError, WeightsError
from segzoo.hdf5 import FUNCTION
from segzoo.layers import ConvBlock, ResizeTo, SeparableConvBlock
from segzoo.layers.base import Layer
from segzoo.levels import LEVELS, levels_at

# Values that options of segzoo 0.1.0 could not have.
_ADDED_VALUES = ("nearest_floor",)
# Deep supervision: a decoder returns a dict of "decoded" and maps whose names begin so.
SUPERVISED = "supervised"


class Decoder(Layer):
    """Base class of decoders: layers from features {"P1": (B, H/2, W/2, C1), ...} to one tensor.

    Attributes:
        default_output_stride: the backbone output stride that the paper uses.
        head_kernel: kernel size of the paper's segmentation head.
        finest: number of the finest level that the decoder reads.
        depth: number of the deepest level that it reads; None for the deepest available.
        separable: whether convolutions larger than 1x1 are depthwise separable.
        align_corners: whether maps are resized with their corner pixels aligned, including by the head that follows.
        head_interpolation: interpolation used by the following head to resize logits to the image; see ResizeTo.
        compat: for "smp", the options, and the `output_stride` of the backbone, that make the decoder
            segmentation_models.pytorch's. `segzoo.build_model(compat="smp")` fills them in where none are given.
        legacy: options that reproduce segzoo 0.1.0, for defaults that have changed since.
        added: options introduced after segzoo 0.1.0.
        assumed: options that `segzoo.build_model` took from `compat` because the caller did not pass them.

    Args:
        normalization: "batch", "group", "layer" or "none".
        activation: any Keras activation name.
        dropout: rate of the dropout of whole channels of the output.
        epsilon: constant added to the variance when blocks normalise; None: 1e-5, or 1e-6 for "layer".
        groups: groups of "group" normalisation; None: the most of 32, 16, 8, 4, 2 with at least two channels in each.
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    default_output_stride: ClassVar[int] = 32
    head_kernel: ClassVar[int] = 1
    finest: ClassVar[int] = 2
    compat: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smp": {}}
    legacy: ClassVar[Mapping[str, Any]] = {}
    added: ClassVar[Sequence[str]] = ("epsilon", "groups")
    assumed: Collection[str] = ()
    depth: int | None = None
    _head_interpolation: str | None = None
    separable: bool = False
    align_corners: bool = False

    def __init__(
        self,
        normalization: str | None = "batch",
        activation: str | None = "relu",
        dropout: float = 0.0,
        epsilon: float | None = None,
        groups: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.normalization = normalization
        self.activation = activation
        self.epsilon = epsilon
        self.groups = groups
        self.dropout = dropout
        self.drop = keras.layers.SpatialDropout2D(dropout, dtype=self.dtype_policy, name="dropout")

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Return names and defaults of the constructor's arguments, those of the decoder itself first."""
        found: dict[str, Any] = {}
        for base in cls.__mro__[: cls.__mro__.index(Decoder) + 1]:
            if "__init__" in vars(base):
                found = {**defaults_of(vars(base)["__init__"]), **found}
        return found

    @classmethod
    def levels(
        cls, output_stride: int, available: Sequence[str] = LEVELS, depth: int | None = None, **options: Any
    ) -> tuple[str, ...]:
        """Return the levels that the decoder reads from a backbone.

        Args:
            output_stride: output stride of the backbone: 8, 16 or 32, or less if it ends at P2 or P1.
            available: levels that the backbone has.
            depth: the decoder's `depth` option.
            **options: the decoder's other options; only those that affect the levels are used.

        Raises:
            SegzooError: an unsupported output stride, or a depth that the backbone does not have.
        """
        return cls._levels_from(cls.finest, output_stride, available, depth)

    @classmethod
    def _levels_from(
        cls, finest: int, output_stride: int, available: Sequence[str], depth: int | None
    ) -> tuple[str, ...]:
        """Return the levels from `finest` to `depth`, or to the deepest one."""
        ends = levels_at(output_stride, shallow=True)
        there = [level for level in ends if level in available and number(level) >= finest]
        if not there:
            raise SegzooError(
                f"{cls.__name__} reads levels from P{finest} on, but the backbone has {', '.join(available)} only."
            )
        if depth is None:
            return tuple(there)
        if f"P{depth}" not in there:
            raise SegzooError(
                f"depth must be the number of a level that {cls.__name__} can end at, one of "
                f"{', '.join(level[1:] for level in there)} at output stride {output_stride}, got {depth!r}."
            )
        return tuple(level for level in there if number(level) <= depth)

    def pick(self, features: Mapping[str, Any]) -> list[str]:
        """Return the levels in use, the finest first; SegzooError lists the available ones if one is missing."""
        last = self.depth or (number(deepest(features)) if features else 5)
        used = [f"P{level}" for level in range(self._first(features), last + 1)]
        self.require(features, *(used or [f"P{self.finest}"]))
        return used

    def _first(self, features: Mapping[str, Any]) -> int:
        """Return the number of the finest level in use."""
        return self.finest

    def block(self, name: str, inputs: int, channels: int, kernel_size: int = 3, **options: Any) -> ConvBlock:
        """Return a built convolution block from `inputs` to `channels` channels."""
        kind = SeparableConvBlock if self.separable and kernel_size > 1 else ConvBlock
        block = kind(channels, kernel_size, name=name, **{**self.block_options, **options})
        block.build((None, None, None, inputs))
        return block

    @property
    def bilinear(self) -> str:
        """Kind of bilinear interpolation, in ResizeTo's terms."""
        return "aligned" if self.align_corners else "bilinear"

    @property
    def head_interpolation(self) -> str:
        """Interpolation of the head: the decoder's own, unless an option overrides it."""
        return self.bilinear if self._head_interpolation is None else self._head_interpolation

    @head_interpolation.setter
    def head_interpolation(self, interpolation: str) -> None:
        ResizeTo(interpolation)  # a name that is none is an error now, not when the head is built
        self._head_interpolation = interpolation

    @property
    def block_options(self) -> dict[str, Any]:
        """Return the arguments that every block of the decoder takes."""
        return {
            "normalization": self.normalization,
            "activation": self.activation,
            "epsilon": self.epsilon,
            "groups": self.groups,
            "dtype": self.dtype_policy,
        }

    def require(self, features: Mapping[str, Any], *levels: str) -> None:
        """Raise SegzooError, listing the available levels, if one of `levels` is missing."""
        missing = [level for level in levels if level not in features]
        if missing:
            raise SegzooError(
                f"{type(self).__name__} needs {', '.join(missing)}, but the features hold "
                f"{', '.join(sorted(features)) or 'nothing'}. Build the backbone with levels="
                f"{tuple(levels)} or another output_stride."
            )

    def function(self) -> dict[str, Any]:
        """Return the JSON-compatible options that the decoded map depends on besides the weights."""
        given = {name: getattr(self, name) for name in self.options() if name != "dropout"}
        if self.normalization != "group":
            given.pop("groups", None)
        return json.loads(json.dumps(given))

    def differences(self, stored: Mapping[str, Any] | None) -> dict[str, tuple[Any, Any]]:
        """Compare with the options of the decoder that weights were made for: name to (theirs, ours) where they differ.

        Args:
            stored: its `function`, or the configuration of the layer; None for weights of segzoo 0.1.0, which kept
                neither. What 0.1.0 gave no choice of is known of these, and the rest is taken to be as here, but for
                what only `compat` says here: then it was as 0.1.0 had it where nothing was said.
        """
        own = self.function()
        known = {*self.added, *self.legacy}
        if stored is None:
            known.update(name for name, value in own.items() if name in self.assumed or value in _ADDED_VALUES)
        before = {name: value for name, value in {**self.options(), **self.legacy}.items() if name in known}
        there = {**json.loads(json.dumps(before)), **(stored or {})}
        return {
            name: (there[name], own[name]) for name in sorted(own.keys() & there.keys()) if there[name] != own[name]
        }

    def save_own_variables(self, store: Any) -> None:
        """Save the options beside the weights, which would load with other options too but compute other maps."""
        super().save_own_variables(store)
        store[FUNCTION] = np.frombuffer(json.dumps(self.function()).encode(), np.uint8)

    def load_own_variables(self, store: Any) -> None:
        """Load the decoder's weights; WeightsError if they were made for other options."""
        kept = {key: store[key] for key in store.keys()}  # noqa: SIM118 - Keras's store is no dict
        stored = read_function(kept.pop(FUNCTION, None))
        if changed := self.differences(stored):
            raise WeightsError(f"These weights {explain(changed, stored, self.assumed)}")
        super().load_own_variables(kept)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Decoder:
        """Create the layer from a configuration; options missing in one of segzoo 0.1.0 take its fixed values."""
        # Keras reads an option such as "add" from a .h5 file of a whole model as the function of that name.
        words = {option: value.__name__ for option, value in config.items() if inspect.isfunction(value)}
        return super().from_config({**cls.legacy, **config, **words})


def number(level: str) -> int:
    """Return the number of a level: 3 of "P3"."""
    return int(level[1:])


def deepest(features: Mapping[str, Any]) -> str:
    """Return the name of the deepest level in `features`."""
    return max(features)


def read_function(stored: Any) -> dict[str, Any] | None:
    """Return `Decoder.function` as it was saved, from the bytes of its data set; None where there is none.

    Raises:
        WeightsError: invalid data.
    """
    if stored is None:
        return None
    try:
        found = json.loads(np.asarray(stored, np.uint8).tobytes())
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"The options kept with a decoder's weights cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise WeightsError(f"The options kept with a decoder's weights are no table: {str(found)[:80]!r}.")
    return found


def explain(
    changed: Mapping[str, tuple[Any, Any]], stored: Mapping[str, Any] | None, assumed: Collection[str] = ()
) -> str:
    """Return the end of a message on weights of a decoder with other options: the differences, and the cure.

    Args:
        changed: `Decoder.differences`.
        stored: the options stored with the weights, or None if there are none.
        assumed: `Decoder.assumed`.
    """
    listed = ", ".join(f"{name}: {there!r} there and {here!r} here" for name, (there, here) in changed.items())
    by_compat = changed.keys() & set(assumed) if stored is None else set()
    given = ", ".join(f"{name}: {there!r}" for name, (there, _) in changed.items() if name not in by_compat)
    cures = [OF_0_1_0_CURE] if by_compat else []
    if given:
        cures.append(
            f"Build the model with the options that they were made with: {given} (in a configuration under "
            "model.options)."
        )
    whose = "a decoder with other options" if stored is not None else "a decoder of segzoo 0.1.0"
    return f"were made for {whose} ({listed}), and would load here and give wrong maps. {' '.join(cures)}"


@keras.saving.register_keras_serializable("segzoo")
class SegmentationHead(Layer):
    """Segmentation head: `(B, h, w, C)` and images `(B, H, W, 3)` to float32 logits `(B, H, W, classes)`.

    A convolution, then a bilinear resize to the image, in float32 whatever the precision of the rest.

    Args:
        classes: number of output channels.
        kernel_size: kernel size of the convolution.
        interpolation: "bilinear" or "aligned"; see ResizeTo.
    """

    def __init__(self, classes: int, kernel_size: int = 1, interpolation: str = "bilinear", **kwargs: Any):
        super().__init__(**kwargs)
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}.")
        self.classes = classes
        self.kernel_size = kernel_size
        self.interpolation = interpolation
        self.conv = keras.layers.Conv2D(classes, kernel_size, padding="same", dtype=self.dtype_policy, name="conv")
        self.resize = ResizeTo(interpolation, dtype="float32", name="resize")

    def build(self, x_shape: tuple, images_shape: tuple) -> None:
        """Create the weights for `(B, h, w, C)` inputs."""
        self.conv.build(x_shape)
        self.built = True

    def call(self, x: Any, images: Any) -> Any:
        """Return logits at the size of `images`."""
        return self.resize(ops.cast(self.conv(x), "float32"), images)

    def compute_output_shape(self, x_shape: tuple, images_shape: tuple) -> tuple:
        """Shape `(B, H, W, classes)`."""
        return (*images_shape[:3], self.classes)

    def compute_output_spec(self, x: Any, images: Any) -> keras.KerasTensor:
        """Float32 whatever the policy."""
        return keras.KerasTensor(self.compute_output_shape(x.shape, images.shape), dtype="float32")


@keras.saving.register_keras_serializable("segzoo")
class AuxiliaryHead(SegmentationHead):
    """Auxiliary segmentation head on an intermediate feature, for deep supervision in training.

    A 3x3 convolution to a quarter of the channels, at least 16, with batch normalisation and ReLU, and dropout before
    the head's own 1x1 convolution. Source: the auxiliary loss of Zhao et al., "Pyramid Scene Parsing Network" (2017),
    section 3.3, with the layers of its published code.

    Args:
        classes: number of output channels.
        dropout: dropout rate.
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    def __init__(self, classes: int, dropout: float = 0.1, **kwargs: Any):
        super().__init__(classes, **kwargs)
        self.dropout = dropout
        self.drop = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, x_shape: tuple, images_shape: tuple) -> None:
        """Create the weights for `(B, h, w, C)` inputs."""
        channels = max(16, x_shape[-1] // 4)
        self.narrow = ConvBlock(channels, 3, dtype=self.dtype_policy, name="narrow")
        self.narrow.build(x_shape)
        super().build((*x_shape[:3], channels), images_shape)

    def call(self, x: Any, images: Any, training: bool | None = None) -> Any:
        """Return logits at the size of `images`."""
        return super().call(self.drop(self.narrow(x, training=training), training=training), images)

    def compute_output_spec(self, x: Any, images: Any, training: bool | None = None) -> keras.KerasTensor:
        """Float32 whatever the policy."""
        return super().compute_output_spec(x, images)


@keras.saving.register_keras_serializable("segzoo")
class ClassificationHead(Layer):
    """Image-level classification head for the presence of classes: `(B, h, w, C)` to float32 logits `(B, classes)`.

    Global average pooling, dropout and a linear layer, as in segmentation_models.pytorch. Trained on which classes a
    mask holds (`segzoo.losses.ClassPresence`) it is the semantic encoding loss of Zhang et al., "Context Encoding for
    Semantic Segmentation" (2018).

    Args:
        classes: number of classes.
        dropout: dropout rate.
        **kwargs: arguments of the Keras layer, such as `name`.
    """

    def __init__(self, classes: int, dropout: float = 0.2, **kwargs: Any):
        super().__init__(**kwargs)
        self.classes = classes
        self.dropout = dropout
        self.drop = keras.layers.Dropout(dropout, dtype="float32", name="dropout")
        self.linear = keras.layers.Dense(classes, dtype="float32", name="linear")

    def build(self, x_shape: tuple) -> None:
        """Create the weights for `(B, h, w, C)` inputs."""
        self.linear.build((None, x_shape[-1]))
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Pool and classify."""
        return self.linear(self.drop(ops.mean(ops.cast(x, "float32"), axis=(1, 2)), training=training))

    def compute_output_spec(self, x: Any, training: bool | None = None) -> keras.KerasTensor:
        """Float32 whatever the policy."""
        return keras.KerasTensor((x.shape[0], self.classes), dtype="float32")
