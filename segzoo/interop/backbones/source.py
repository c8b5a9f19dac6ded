"""Source of a backbone's weights: a network of another library, by the names of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from segzoo.errors import WeightsError
from segzoo.interop.checkpoint import Tensors
from segzoo.interop.rows import Row

_COUNTERS = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Network of another library that segzoo has.

    Attributes:
        name: "library/name", such as "timm/resnet50".
        backbone: segzoo's name.
        rows: of all its layers that a backbone has.
        top: rows of layers behind the last block, which a checkpoint of features alone may lack.
        taps_without_top: kind of taps that does without these; empty where no kind needs them.
        left: first parts of names of tensors that no backbone has, such as "fc."; a classifier's, mostly.
        shapes: shapes of tensors by which it differs from networks of the same names.
        compat: word of `model.compat` with which the backbone computes the same; None: it does so without.
        mean: mean of each channel that its weights want, in pixel values 0..255; None: the backbone's own.
        std: standard deviation, as `mean`.
        same: names of networks with the same tensors that compute the same.
        marks: what tells it from networks with the same tensors that compute something else, in words.
        note: what the user must know of the converted weights, in a sentence; empty if nothing.
    """

    name: str
    backbone: str
    rows: tuple[Row, ...]
    top: tuple[Row, ...] = ()
    taps_without_top: str = ""
    left: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    compat: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    same: tuple[str, ...] = ()
    marks: str = ""
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all networks that it stands for."""
        return (self.name, *self.same)

    def input_channels(self, tensors: Tensors, origin: str) -> int:
        """Return the channels of the images, which the first convolution shows; WeightsError for no such kernel."""
        first = self.rows[0].tensors[0]
        shape = tensors[first].shape
        if len(shape) != 4 or not shape[1]:
            raise WeightsError(f"{origin}: {first} has shape {shape}, which no convolution of images has.")
        return int(shape[1])

    def pixels(self, channels: int) -> dict[str, list[float]]:
        """Return the `mean` and `std` that its weights want for images of so many channels; {}: the backbone's own."""
        return {
            key: [values[channel % 3] for channel in range(channels)]
            for key, values in (("mean", self.mean), ("std", self.std))
            if values is not None
        }

    def has_top(self, tensors: Tensors) -> bool:
        """Return True if a state dict has the layers behind the last block, or the network has none."""
        return all(name in tensors for row in self.top for name in row.tensors)

    def lacking(self, tensors: Tensors) -> list[str]:
        """Return the names of tensors of the network that a state dict lacks."""
        top = self.top if any(name in tensors for row in self.top for name in row.tensors) else ()
        return [name for row in (*self.rows, *top) for name in row.tensors if name not in tensors]

    def foreign(self, tensors: Tensors) -> list[str]:
        """Return the names in a state dict that are not of the network."""
        own = {layer for row in (*self.rows, *self.top) for layer in row.layers}
        return [
            name
            for name in tensors
            if not (name in own or name.rpartition(".")[0] in own)
            and not name.startswith(self.left)
            and not name.endswith(_COUNTERS)
        ]

    def unlike(self, tensors: Tensors) -> list[str]:
        """Return the names of tensors that have another shape than in the network."""
        return [name for name, shape in self.shapes.items() if name in tensors and tuple(tensors[name].shape) != shape]

    def fits(self, tensors: Tensors) -> bool:
        """Return True if a state dict has the network's tensors, by their names and telling shapes, and no others."""
        return not (self.unlike(tensors) or self.lacking(tensors) or self.foreign(tensors))


@dataclass(frozen=True, kw_only=True)
class Stranger:
    """Network of another library that segzoo does not have.

    Attributes:
        name: of the network or its family.
        sign: name of a tensor that tells it from all in the table, with `#` for any number.
        shape: sizes of that tensor, None for any; empty: any shape.
        nearest: backbone of segzoo that is most like it.
        reason: what keeps its weights from any backbone here.
    """

    name: str
    sign: str
    shape: tuple[int | None, ...] = ()
    nearest: str
    reason: str = "segzoo does not have that network"
