"""Which columns of the published files are summed up: those of `verify`, whatever they are called there."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from include.etl.completeness.publication import published_fields
from tests.unit.etl.test_plan import source

COLUMNS = pa.schema(
    [("visit_id", pa.int64()), ("remark", pa.string()), ("fee", pa.decimal128(10, 2)), ("t", pa.time64("us"))]
)


@pytest.mark.parametrize(
    ("transform", "wanted", "found"),
    [
        ({}, ["fee"], ["fee"]),
        ({"rename": {"note": "remark"}}, ["note", "fee"], ["remark", "fee"]),
        ({"rename": {"note": "remark", "price": "fee"}}, ["note", "price"], ["remark", "fee"]),
        ({"names": "snake_case"}, ["Fee", "visitId"], ["fee", "visit_id"]),
        ({}, ["fee", "note"], ["fee"]),  # own steps may remove a column
        ({}, ["t"], []),  # or make one of a type that has no exact sum
    ],
)
def test_columns_are_found_under_their_published_names(
    transform: dict[str, Any], wanted: list[str], found: list[str]
) -> None:
    asked = source(transform=transform, verify={"columns": wanted})
    assert published_fields(asked, COLUMNS) == {name: COLUMNS.field(name).type for name in found}
