"""docs/outputs.md says what the formats do."""

from __future__ import annotations

import gzip
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path

import openpyxl
import pyarrow as pa
import pytest

from include.etl.outputs import open_output

PAGE = Path(__file__).parents[3] / "docs" / "outputs.md"
AT = datetime(2024, 2, 29, 8, 30, 15)
FINE = 1_709_195_415_000_000_100
"""The same moment and 100 ns, in nanoseconds since 1970."""
KINDS = {"n": "number", "s": "text", "d": "date", "b": "boolean"}
VALUES = {
    "int64": pa.array([42]),
    "int64, from 16 digits on": pa.array([1234567890123456]),
    "uint64": pa.array([2**64 - 1], pa.uint64()),
    "decimal128(10, 2)": pa.array([Decimal("1.50")], pa.decimal128(10, 2)),
    "decimal128(38, 10)": pa.array([Decimal("1E-10")], pa.decimal128(38, 10)),
    "decimal128(38, 0), from 16 digits on": pa.array([Decimal("9" * 38)], pa.decimal128(38, 0)),
    "float": pa.array([0.1], pa.float32()),
    "double": pa.array([0.1]),
    "double, not a number": pa.array([float("nan")]),
    "double, infinite": pa.array([float("-inf")]),
    "double, negative zero": pa.array([-0.0]),
    "bool": pa.array([True]),
    "string": pa.array(["00123"]),
    "string, empty": pa.array([""]),
    "string, a formula": pa.array(["=1+1"]),
    "string, an apostrophe first": pa.array(["'quoted"]),
    "binary": pa.array([b"\x00\xff"]),
    "date32": pa.array([AT.date()]),
    "date32, before March 1900": pa.array([date(1900, 2, 28)]),
    "time64[us]": pa.array([time(8, 30, 15)]),
    "time64[ns]": pa.array([time(8, 30, 15)], pa.time64("ns")),
    "timestamp[s]": pa.array([AT], pa.timestamp("s")),
    "timestamp[us]": pa.array([AT]),
    "timestamp[us], finer than milliseconds": pa.array([AT.replace(microsecond=1)]),
    "timestamp[ns]": pa.array([AT], pa.timestamp("ns")),
    "timestamp[ns], finer than milliseconds": pa.array([FINE], pa.timestamp("ns")),
    "timestamp[us, UTC]": pa.array([AT], pa.timestamp("us", "UTC")),
    "timestamp[ns, UTC]": pa.array([AT], pa.timestamp("ns", "UTC")),
    "NULL": pa.array([None], pa.int64()),
}


def documented() -> dict[str, tuple[str, str]]:
    """Type -> CSV field and kind of Excel cell, from the page's second table."""
    lines = PAGE.read_text().split("| type | csv | excel |\n|---|---|---|\n")[1].split("\n\n")[0].splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines]
    return {name: (csv.strip("`"), excel) for name, csv, excel in cells}


def test_the_page_and_this_test_name_the_same_types() -> None:
    assert set(documented()) == set(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_csv_is_as_documented(name: str, tmp_path: Path) -> None:
    open_output("csv").write(pa.table({"a": VALUES[name]}).to_reader(), tmp_path / "file")
    field = gzip.decompress((tmp_path / "file").read_bytes()).decode().split("\n")[1]
    assert (field or "nothing") == documented()[name][0]


@pytest.mark.parametrize("name", VALUES)
def test_excel_is_as_documented(name: str, tmp_path: Path) -> None:
    open_output("excel").write(pa.table({"a": VALUES[name]}).to_reader(), tmp_path / "file.xlsx")
    cell = openpyxl.load_workbook(tmp_path / "file.xlsx")["data"]["A2"]
    assert ("no cell" if cell.value is None else KINDS[cell.data_type]) == documented()[name][1]
