import json

import jsonschema
import pytest
import yaml

from scripts.write_schema import SCHEMA, schema_text

SOURCES = sorted(SCHEMA.parent.glob("[!_]*.yaml"))


def test_the_schema_file_is_up_to_date() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), "run: make schema"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_source_meets_it(path, validator) -> None:
    content = json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8")), default=str))
    assert [error.message for error in validator.iter_errors(content)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"shedule": {}},
        {"schedule": {"daily": "0 2 * * *"}},
        {"output": {"formats": ["orc"]}},
        {"cursor": {"column": "updated_at", "lookback": "1 hour"}},
        {"conn_id": None},
    ],
)
def test_mistakes_do_not(change, validator) -> None:
    right = {"source": "a", "description": "A", "conn_id": "db", "table": "t", "schedule": {"full": "@daily"}}
    assert validator.is_valid(right)
    assert not validator.is_valid(right | change)
