"""Names of a model's outputs, where it has several."""

from __future__ import annotations

LOGITS = "logits"
PRESENCE = "presence"
