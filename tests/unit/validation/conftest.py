from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.etl.validation import Reference, Verdict, validate

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("nr", pa.int32()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us")),
        ("zoned", pa.timestamp("us", "UTC")),
        ("fee", pa.decimal128(10, 2)),
        ("code", pa.string()),
        ("ratio", pa.float64()),
    ]
)

ROWS = [
    {
        "id": number,
        "nr": number * 10,
        "day": dt.date(2024, 1, number),
        "at": dt.datetime(2024, 1, number, 12),
        "zoned": dt.datetime(2024, 1, number, 12, tzinfo=dt.UTC),
        "fee": Decimal(number) / 10,
        "code": code,
        "ratio": float(number),
    }
    for number, code in enumerate(["A1", "B2", "A3", "C4", None], 1)
]

WriteRows = Callable[..., Path]
Check = Callable[..., Verdict]


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """Writes rows as one Parquet part; columns that a row leaves out are NULL."""

    def write(rows: Sequence[Mapping[str, Any]], schema: pa.Schema = SCHEMA, name: str = "part-0.parquet") -> Path:
        path = tmp_path / name
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), path)
        return path

    return write


@pytest.fixture
def write_suite(tmp_path: Path) -> Callable[..., Path]:
    """Writes (type, kwargs[, severity]) as a suite file."""

    def write(*entries: tuple[Any, ...]) -> Path:
        expectations = [
            {"type": type_, "kwargs": kwargs, **({"severity": rest[0]} if rest else {})}
            for type_, kwargs, *rest in entries
        ]
        path = tmp_path / "suite.json"
        path.write_text(json.dumps({"name": "suite", "expectations": expectations}))
        return path

    return write


@pytest.fixture
def check(tmp_path: Path, write_rows: WriteRows, write_suite: Callable[..., Path]) -> Check:
    """Validates the five rows above, or others, against (type, kwargs[, severity])."""

    def run(
        *entries: tuple[Any, ...],
        rows: Sequence[Mapping[str, Any]] = ROWS,
        parts: Sequence[Path] | None = None,
        references: Sequence[Reference] = (),
    ) -> Verdict:
        files = parts or [write_rows(rows)]
        return validate("visits", files, write_suite(*entries), references, tmp_path / "results", 200)

    return run
