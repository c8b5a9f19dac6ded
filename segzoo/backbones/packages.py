"""Networks of the optional packages keras-cv and keras-hub, which are imported when one is built.

Their networks are made of layers of their own, some of which know one image size only. `unroll` takes such a network
apart into the layers that the adapter knows, with the same weights and with names that do not depend on what was built
before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segzoo.errors import MissingPackageError, WeightsError
from segzoo.extras import install_command

# Package to the argument that its backbones take the shape of an image by.
_SHAPE = {"keras_cv": "input_shape", "keras_hub": "image_shape"}


def import_package(module: str) -> Any:
    """Import "keras_cv" or "keras_hub"; MissingPackageError names the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = module.replace("_", "-")
        raise MissingPackageError(
            f"This backbone is built by {extra}, which cannot be imported ({error}): {install_command(extra)}."
        ) from error


def _cure(preset: str) -> str:
    if Path(preset).is_dir():
        return "Take the folder of one of the same network, or another backbone."
    return "Please report it with the version of keras-hub, and use weights: none meanwhile."


@contextmanager
def preset_of(network: str, preset: str) -> Iterator[None]:
    """Refuse a preset whose weights turn out to be of another network: WeightsError in the place of what went wrong."""
    try:
        yield
    except (AttributeError, KeyError, IndexError, ValueError) as error:
        raise WeightsError(
            f"The preset {preset} is not of {network}: {str(error).rstrip('.')}. {_cure(preset)}"
        ) from error


@dataclass(frozen=True)
class Network:
    """Constructor of a network of a package, with the interface of keras.applications.

    Attributes:
        package: module to import, "keras_cv" or "keras_hub".
        backbone: class in its `models`. The packages' presets are not used, because they access the internet even for
            random weights.
        arguments: arguments of the class.
        unroll: converts the network to one of plain layers; None if it already is.
        shape: argument that takes the shape of an image; by default the package's usual one.
    """

    package: str
    backbone: str
    arguments: Mapping[str, Any]
    unroll: Callable[[Any], Any] | None = None
    shape: str = ""

    def __call__(
        self, include_top: bool = False, weights: str | None = None, input_shape: tuple = (256, 256, 3)
    ) -> Any:
        """Build the network for images of this shape; `weights` is None or a preset of the package.

        Raises:
            MissingPackageError: the package is not installed.
            ValueError: a classifier is requested, which these networks do not have.
        """
        if include_top:
            raise ValueError(f"{self.backbone} has no classifier.")
        network = self.packaged(weights, input_shape)
        return network if self.unroll is None else self.unroll(network)

    def packaged(self, weights: str | None = None, input_shape: tuple = (256, 256, 3)) -> Any:
        """Build the package's network unchanged."""
        models = import_package(self.package).models
        backbone = getattr(models, self.backbone)
        shape = {self.shape or _SHAPE[self.package]: tuple(input_shape)}
        if weights is not None and (weights in backbone.presets or not Path(weights).is_dir()):
            return backbone.from_preset(weights, **shape)
        # The classes keep the lists that they are given.
        arguments = {name: list(value) if isinstance(value, tuple) else value for name, value in self.arguments.items()}
        network = backbone(**arguments, **shape)
        if weights is not None:
            with preset_of(f"the {self.backbone} that was asked for", weights):
                network.set_weights(_encoder(models.Backbone.from_preset(weights), backbone).get_weights())
        return network


def _encoder(found: Any, backbone: type) -> Any:
    """Return the encoder of a segmentation network such as DeepLabV3's and SegFormer's, or the network itself.

    Raises:
        ValueError: neither is of the class `backbone`.
    """
    encoder = getattr(found, "image_encoder", found)
    if not isinstance(encoder, backbone):
        raise ValueError(f"it is of a {type(encoder).__name__}, and must be of a {backbone.__name__}")
    return encoder


def twin(layer: Any, name: str, *inputs: Any, **changes: Any) -> Any:
    """Call a new layer with the weights and configuration of `layer`, but for its name and `changes`."""
    new = type(layer).from_config({**layer.get_config(), **changes, "name": name})
    outputs = new(*inputs)
    new.set_weights(layer.get_weights())
    return outputs


def unroll(network: Any, call: Callable[..., Any]) -> Any:
    """Rebuild a network on new inputs, with `call(layer, *inputs)` in place of each layer.

    Args:
        network: a functional model.
        call: returns the output of plain layers that replace the layer, or None if the layer is already plain.
    """
    import keras

    def call_anew(layer: Any, *inputs: Any, **options: Any) -> Any:
        outputs = call(layer, *inputs)
        if outputs is not None:
            return outputs
        return twin(layer, layer.name, *inputs) if isinstance(layer, keras.layers.Layer) else layer(*inputs, **options)

    images = keras.Input(network.input.shape[1:])
    copy = keras.models.clone_model(
        keras.Model(network.input, network.output),
        input_tensors=images,
        clone_function=lambda layer: layer,
        call_function=call_anew,
    )
    return keras.Model(images, copy.output, name=network.name)
