"""The JSON Schema of a configuration, for completion and checks in an editor."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from segzoo.config.schema import Config
from segzoo.files import replacing


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration; registered names are enums."""
    from segzoo.backbones import BACKBONES
    from segzoo.data.batch_transforms import BATCH_TRANSFORMS
    from segzoo.data.formats import MASK_FORMATS
    from segzoo.decoders import DECODERS
    from segzoo.losses import LOSSES
    from segzoo.metrics import METRICS
    from segzoo.optim import OPTIMIZERS, SCHEDULES
    from segzoo.tracking import TRACKERS

    schema = Config.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "segzoo configuration"
    model = schema["$defs"]["ModelConfig"]["properties"]
    model["decoder"]["enum"] = sorted(DECODERS)
    model["backbone"]["enum"] = sorted(BACKBONES)
    schema["$defs"]["OptimizerConfig"]["properties"]["name"]["enum"] = sorted(OPTIMIZERS)
    schema["$defs"]["ScheduleConfig"]["properties"]["name"]["enum"] = sorted(SCHEDULES)
    schema["properties"]["loss"]["propertyNames"] = {"enum": sorted(LOSSES)}
    schema["properties"]["tracking"]["propertyNames"] = {"enum": sorted(TRACKERS)}
    schema["$defs"]["OutputConfig"]["properties"]["metrics"]["items"] = _name_or_options(sorted(METRICS))
    masks = schema["$defs"]["FolderData"]["properties"]["masks"]
    del masks["type"], masks["additionalProperties"]
    formats = {"enum": sorted(MASK_FORMATS)}
    masks["anyOf"] = [formats, {"type": "object", "properties": {"format": formats}, "required": ["format"]}]
    for data in ("FolderData", "GeneratedData"):
        # The discriminator has a default in each class, and would be listed as optional.
        section = schema["$defs"][data]
        section["required"] = sorted({*section.get("required", ()), "source"})
        section["properties"]["batch_transforms"]["items"] = _name_or_options(sorted(BATCH_TRANSFORMS))
    return schema


def _name_or_options(names: list[str]) -> dict[str, Any]:
    """Return the schema of a name, or of a mapping from one name to its options."""
    options = {"anyOf": [{"type": "object"}, {"type": "null"}]}
    mapping = {"type": "object", "minProperties": 1, "maxProperties": 1, "propertyNames": {"enum": names}}
    return {"anyOf": [{"enum": names}, {**mapping, "additionalProperties": options}]}


def write_json_schema(path: str | os.PathLike[str]) -> None:
    """Write `json_schema()` to a file, for a first line `# yaml-language-server: $schema=<path>`.

    Raises:
        StorageError: the file cannot be written.
    """
    with replacing(Path(path)) as temporary:
        temporary.write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
