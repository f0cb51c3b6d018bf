"""Write the JSON Schema of a source file, with which editors complete and check include/sources/*.yaml.

python scripts/write_schema.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from include.etl.config import INCLUDE, Source
from include.etl.sources import DEFAULTS
from scripts import command_line as cli

SCHEMA = INCLUDE / "sources" / "source.schema.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    parser = cli.parser(__doc__)
    cli.add_json(parser)
    return cli.run(_work, parser.parse_args(arguments))


def _work(asked: argparse.Namespace) -> int:
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    name = str(SCHEMA.relative_to(INCLUDE.parent))
    cli.say(asked, {"written": name}, [f"written: {name}"])
    return cli.DONE


def schema_text() -> str:
    """The schema as the file holds it; what _defaults.yaml gives, a source's file need not repeat."""
    schema = Source.model_json_schema()
    defaults = yaml.safe_load((SCHEMA.parent / DEFAULTS).read_text(encoding="utf-8"))
    _make_optional(schema, defaults, schema["$defs"])
    complete = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(complete, indent=2, ensure_ascii=False) + "\n"


def _make_optional(schema: dict[str, Any], defaults: dict[str, Any], definitions: dict[str, Any]) -> None:
    """No longer require the keys that have a default, here and in the parts below."""
    schema["required"] = [key for key in schema.get("required", []) if key not in defaults]
    for key, value in defaults.items():
        reference = schema["properties"][key].get("$ref", "")
        if isinstance(value, dict) and reference:
            _make_optional(definitions[reference.rpartition("/")[2]], value, definitions)


if __name__ == "__main__":
    sys.exit(main())
