"""Recognition of the network that a state dict is of, by the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Sequence

from segzoo.errors import WeightsError, unknown_name
from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.backbones.table import SOURCES, STRANGERS
from segzoo.interop.checkpoint import Tensors

# What wrappers put before every name: DataParallel, Lightning, torch.compile, and networks that have an encoder.
_PREFIXES = ("module.", "model.", "encoder.", "backbone.", "_orig_mod.")
_SHOWN = 3


def without_prefix(tensors: Tensors) -> Tensors:
    """Strip the prefixes that all names have, whatever their order."""
    while tensors and (prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None)):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def recognize(tensors: Tensors, named: str | None, origin: str) -> Source:
    """Identify the network of a state dict.

    Args:
        tensors: state dict without prefixes.
        named: "library/name" or the name alone, where the tensors leave a choice; else None.
        origin: name of the checkpoint, for messages.

    Raises:
        UnknownNameError: no network of this name is known.
        WeightsError: tensors of no known network, of another than the named one, or of several that compute different
            things, which are listed.
    """
    candidates = SOURCES if named is None else _called(named)
    fitting = [source for source in candidates if source.fits(tensors)]
    if not fitting:
        raise _misfit(tensors, candidates, named, origin)
    first, *others = fitting
    if any(_outcome(source) != _outcome(first) for source in others):
        choices = "; ".join(f"{source.name} ({source.marks or 'as segzoo has it'})" for source in fitting)
        raise WeightsError(
            f"{origin} has the tensors of {len(fitting)} networks that compute different things: {choices}. Say by "
            f"--as (in Python, name=) which it is, such as --as {first.name}."
        )
    return first


def _outcome(source: Source) -> tuple:
    return source.backbone, source.compat, source.mean, source.std


def _called(named: str) -> list[Source]:
    """Return the sources of a name, with or without its library."""
    found = [source for source in SOURCES if any(named in (name, name.partition("/")[2]) for name in source.names)]
    if not found:
        names = [name for source in SOURCES for name in source.names]
        raise unknown_name("network that is a backbone here", named, names, "in docs/checkpoints.md")
    return found


def _misfit(tensors: Tensors, candidates: Sequence[Source], named: str | None, origin: str) -> WeightsError:
    """Return the error for a state dict that none of the candidates fits."""
    stranger = next((one for one in STRANGERS if _is_of(tensors, one)), None)
    if stranger is not None:
        return WeightsError(
            f"{origin} is of {stranger.name} by its tensors, and cannot be converted: {stranger.reason}. The nearest "
            f"backbone here is {stranger.nearest}, for which a file of its own network is needed."
        )
    nearest = min(candidates, key=lambda source: _distance(source, tensors))
    if not tensors:
        return WeightsError(f"{origin} holds no tensors; save the whole state dict of the original.")
    lacking, foreign, unlike = nearest.lacking(tensors), nearest.foreign(tensors), nearest.unlike(tensors)
    if named is None and len(lacking) > len(nearest.rows) // 2:
        if prefix := _unknown_prefix(tensors):
            return WeightsError(
                f"{origin} has the tensors of a known network, but all names begin with {prefix!r}. Save them without "
                f"it: {{name.removeprefix({prefix!r}): value for name, value in model.state_dict().items()}}."
            )
        return WeightsError(
            f"{origin} holds {len(tensors)} tensors, first {', '.join(list(tensors)[:_SHOWN])}, which are of no "
            "network that is a backbone here. docs/checkpoints.md lists those of torchvision, timm and "
            "segmentation_models.pytorch that are."
        )
    parts = [
        f"lacks {len(lacking)} of its layers, first {lacking[0]}" if lacking else "",
        f"holds {len(foreign)} tensors that it does not have, first {foreign[0]}" if foreign else "",
        *(
            f"has {name} of shape {tuple(tensors[name].shape)} where it has {nearest.shapes[name]}"
            for name in unlike[:1]
        ),
    ]
    said = " and ".join(filter(None, parts))
    others = [name for source in SOURCES if source.fits(tensors) for name in source.names]
    cure = (
        f"By its tensors it is {' or '.join(others)}."
        if others
        else ("The file is cut, or of a network that was changed; save the whole state dict of the original.")
    )
    return WeightsError(
        f"{origin} is not {nearest.name}{'' if named else ', to which it is nearest'}: it {said}. {cure}"
    )


def _unknown_prefix(tensors: Tensors) -> str:
    """Return the first word that all names share, without which they are of a known network; else ""."""
    prefix = f"{next(iter(tensors)).partition('.')[0]}."
    if not all(name.startswith(prefix) for name in tensors):
        return ""
    bare = without_prefix({name.removeprefix(prefix): value for name, value in tensors.items()})
    return prefix if any(source.fits(bare) for source in SOURCES) else ""


def _distance(source: Source, tensors: Tensors) -> float:
    """Return the number of layers that differ, as a share of the source's own."""
    differing = len(source.lacking(tensors)) + len({name.rpartition(".")[0] for name in source.foreign(tensors)})
    return (differing + len(source.unlike(tensors))) / len(source.rows)


def _is_of(tensors: Tensors, stranger: Stranger) -> bool:
    pattern = re.compile(re.escape(stranger.sign).replace(r"\#", r"\d+"))
    found = next((value for name, value in tensors.items() if pattern.fullmatch(name)), None)
    if found is None:
        return False
    shape = stranger.shape or (None,) * found.ndim
    return len(shape) == found.ndim and all(size in (None, own) for size, own in zip(shape, found.shape, strict=True))
