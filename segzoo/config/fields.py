"""Base class and field types of the sections of a configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from segzoo.config import text_checks

MOST = 10**9  # upper bound of every count: a larger value is a typing error, and would overflow later
Positive = Annotated[int, Field(ge=1, le=MOST)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(gt=0)]
# One line of text without control characters, which terminals and file systems interpret.
LONGEST_LINE = 1000
Line = Annotated[str, Field(max_length=LONGEST_LINE), AfterValidator(text_checks.one_line)]
Text = Annotated[Line, Field(min_length=1)]
Place = Annotated[Text, AfterValidator(text_checks.path)]
# A path, or an address on a hub such as hf://user/name.
Source = Annotated[Place, AfterValidator(text_checks.address)]


class Section(BaseModel):
    """Section of the configuration: immutable, without unknown keys or implicit type conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
