"""Checkpoints of other libraries as weights: whole networks of segmentation_models.pytorch, and backbones.

Of the former, all architectures that segzoo has, on the encoders of `smp_tensors.ENCODERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segzoo.backbones.table import BACKBONES
from segzoo.compat import SMP
from segzoo.errors import WeightsError, alternatives, shortened
from segzoo.interop import smp_options, smp_tensors
from segzoo.interop.backbones.source import Source
from segzoo.interop.checkpoint import Tensors, read, read_config
from segzoo.interop.smp_tensors import ENCODERS
from segzoo.workflows.backbone_conversion import convert_backbone_tensors, named_by, pixels_by
from segzoo.workflows.converted import Conversion

if TYPE_CHECKING:
    import keras


def convert(checkpoint: str | Path, encoder: str | None = None, config: str | Path | None = None) -> Conversion:
    """Build the segzoo model of a checkpoint, with its weights.

    A checkpoint without decoder and head, of which nothing is said, is a backbone's, see `convert_backbone`. Logits of
    a whole network of segmentation_models.pytorch agree with the original's at every size that it takes. Pixels
    are 0..255 here, and normalised inside as the original's encoders want them: by ImageNet's mean and standard
    deviation, or to -1..1 where an EfficientNet was started from "advprop".

    Args:
        checkpoint: a folder as `save_pretrained` writes it, a `.safetensors` file, or a state dict saved by
            `torch.save`.
        encoder: the original's `encoder_name`, such as "resnet34"; a configuration says it itself.
        config: the original's `config.json`, for a checkpoint that is a single file. Options that it does not name have
            their defaults, as in the original.

    Raises:
        WeightsError: a file that cannot be read, a network or an option without counterpart in segzoo, or tensors
            that contradict the configuration.
    """
    path = Path(checkpoint)
    tensors, described = read(path)
    if config is not None:
        described = read_config(Path(config))
    if encoder is None and "encoder_name" not in (described or {}) and not is_whole(tensors):
        return convert_backbone_tensors(tensors, named_by(described), str(path), pixels=pixels_by(described))
    return convert_tensors(tensors, described, encoder, str(path))


def is_whole(tensors: Tensors) -> bool:
    """Return True if a state dict is of a segmentation network, with a decoder or a head for its masks."""
    return any(name.startswith(("decoder.", "segmentation_head.")) for name in tensors)


def convert_tensors(
    tensors: Tensors,
    config: Mapping[str, Any] | None = None,
    encoder: str | None = None,
    origin: str = "The checkpoint",
) -> Conversion:
    """Build the segzoo model of a checkpoint that has been read already, see `convert`.

    Args:
        tensors: the original's state dict, in NumPy.
        config: the original's configuration, or None.
        encoder: the original's `encoder_name`, where the configuration does not say it.
        origin: name of the checkpoint, for messages.

    Raises:
        WeightsError: as `convert`.
    """
    tensors = _under_present_names(tensors)
    encoder = _encoder(encoder, config, tensors, origin)
    architecture = smp_options.architecture_of(tensors, config, origin)
    source = smp_tensors.source_of(encoder, tensors, origin)
    placed, assumed = smp_options.settings_of(architecture, tensors, config, origin)
    names = {"decoder": architecture.decoder, "backbone": source.backbone}
    channels = source.input_channels(tensors, origin)
    pixels, more, note = smp_options.pixels_of(encoder, source, config, channels, origin)
    computed = _computed_as(encoder, source, architecture.decoder, placed)
    settings: dict[str, Any] = {**names, **computed, **pixels}
    model = _build(settings, architecture.classes(tensors), channels)
    rows = smp_tensors.encoder_rows(model, source)
    rows += smp_tensors.decoder_rows(architecture, settings, tensors)
    unused = smp_tensors.assign(model, architecture, source, rows, tensors, origin)
    return Conversion(model, settings, unused, {**assumed, **more}, note)


def _computed_as(encoder: str, source: Source, decoder: str, placed: Mapping[str, Any]) -> dict[str, Any]:
    """Return taps, `compat`, output stride and the decoder's options.

    `compat: smp` says how backbone and decoder compute. Where the backbone computes as in timm, `compat` is the word
    for that, and the options that `compat: smp` would give the decoder are spelled out.
    """
    from segzoo.decoders import DECODERS

    known = ENCODERS[encoder]
    taps = next((kind for kind in known.taps if kind in BACKBONES[source.backbone].tables), None)
    if known.as_smp:
        return {"taps": taps, "compat": SMP, **placed}
    options = dict(DECODERS[decoder].compat[SMP])
    stride = placed.get("output_stride", options.pop("output_stride", 32))
    compat = source.compat if stride == 32 else known.dilated or source.compat
    stated = {"taps": taps, "compat": compat, "output_stride": stride}
    return {**stated, "options": {**options, **placed["options"]}}


_OF_TIMM = (
    ": of timm's networks, whole models are converted with those that are listed; another may be one that can be "
    "converted alone, see docs/checkpoints.md"
)


def _encoder(named: str | None, config: Mapping[str, Any] | None, tensors: Tensors, origin: str) -> str:
    """Return SMP's name of the encoder, from the argument or the configuration."""
    given = (config or {}).get("encoder_name")
    if named is not None and given is not None and named != given:
        raise WeightsError(f"{origin} is of the encoder {given!r} by its configuration, but {named!r} was named.")
    encoder = named if given is None else given
    if encoder is None:
        found = " or ".join(smp_tensors.fitting(tensors)) or "none of those that are known here, see docs/smp.md"
        raise WeightsError(
            f"{origin} does not say which encoder it is for; name it by --encoder. By its tensors it is {found}."
        )
    if isinstance(encoder, str) and encoder.startswith("tu-"):
        encoder = encoder.partition(".")[0]  # the name of its weights follows
    if not isinstance(encoder, str) or encoder not in ENCODERS:
        reason = _OF_TIMM if str(encoder).startswith(("timm-", "tu-")) else ""
        others = alternatives(str(encoder), list(ENCODERS), "in docs/smp.md")
        raise WeightsError(f"Encoder {shortened(str(encoder))} has no counterpart here{reason}. {others}")
    return encoder


def _under_present_names(tensors: Tensors) -> Tensors:
    """Rename tensors of DeepLabV3 from SMP 0.4's names to those of later versions."""
    if "decoder.0.convs.0.0.weight" not in tensors:
        return tensors
    present = {"decoder.0.": "decoder.aspp.", "decoder.1.": "decoder.conv.", "decoder.2.": "decoder.bn."}
    return {
        next((new + name.removeprefix(old) for old, new in present.items() if name.startswith(old)), name): value
        for name, value in tensors.items()
    }


def _build(settings: dict[str, Any], classes: int, channels: int) -> keras.Model:
    from segzoo.models.build import build_model

    named = {key: value for key, value in settings.items() if key not in ("decoder", "backbone", "options")}
    return build_model(
        settings["decoder"],
        settings["backbone"],
        classes,
        weights="none",
        input_channels=channels,
        **named,
        **settings["options"],
    )
