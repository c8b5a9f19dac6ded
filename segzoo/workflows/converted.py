"""Result of converting a checkpoint of another library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


@dataclass
class Conversion:
    """A converted checkpoint.

    Attributes:
        model: the model or backbone with the checkpoint's weights.
        settings: the `model` section of a configuration that builds it.
        unused: tensors of the checkpoint that no layer takes: those behind the last feature in use, a classifier's, and
            attention that the original does not use either.
        assumed: keys of the original's configuration that neither it nor the tensors say, to the original's defaults,
            which were taken. Empty for a checkpoint with a configuration.
        note: what was recognised and assumed, for the user to check, without the last full stop; or empty.
    """

    model: keras.Model
    settings: dict[str, Any]
    unused: list[str] = field(default_factory=list)
    assumed: dict[str, Any] = field(default_factory=dict)
    note: str = ""
