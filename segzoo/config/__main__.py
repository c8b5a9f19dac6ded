"""`python -m segzoo.config [path]`: print the JSON Schema of a configuration, or write it to a file."""

from __future__ import annotations

import json
import sys

from segzoo.config.editor import json_schema, write_json_schema

if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_json_schema(sys.argv[1])
    else:
        print(json.dumps(json_schema(), indent=2))
