"""What CSV files look like inside, and to the readers that people use."""

from __future__ import annotations

import gzip
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from include.etl.errors import DataError
from include.etl.outputs import csv as csv_output
from include.etl.outputs.csv import CsvOutput


def content(table: pa.Table, path: Path) -> str:
    CsvOutput().write(table.to_reader(), path)
    return gzip.decompress(path.read_bytes()).decode()


def test_every_type_has_its_documented_text(tmp_path: Path) -> None:
    moment = datetime(1969, 12, 31, 8, 5, 0, 120)
    table = pa.table(
        {
            "text": ["0012"],
            "number": pa.array([2**64 - 1], pa.uint64()),
            "money": pa.array([Decimal("1.50")], pa.decimal128(10, 2)),
            "tiny": pa.array([Decimal("1E-10")], pa.decimal128(38, 10)),
            "ratio": [-0.0],
            "yes": [True],
            "day": [date(1, 1, 1)],
            "time": pa.array([time(8, 5)], pa.time64("us")),
            "at": pa.array([moment], pa.timestamp("us")),
            "utc": pa.array([moment], pa.timestamp("us", "UTC")),
            "bytes": [b"\x00\xff"],
        }
    )
    header, row, end = content(table, tmp_path / "file").split("\n")
    assert header == '"text","number","money","tiny","ratio","yes","day","time","at","utc","bytes"'
    assert row == (
        '"0012",18446744073709551615,1.50,0.0000000001,-0,true,0001-01-01,08:05:00.000000,'
        '1969-12-31T08:05:00.000120,1969-12-31T08:05:00.000120Z,"00ff"'
    )
    assert end == ""


def test_zoned_timestamps_of_any_zone_are_written_in_utc(tmp_path: Path) -> None:
    singapore = pa.array([datetime(2024, 1, 1)], pa.timestamp("s", "Asia/Singapore"))
    assert content(pa.table({"at": singapore}), tmp_path / "file") == '"at"\n2024-01-01T00:00:00Z\n'


def test_null_is_an_empty_field_and_an_empty_text_is_quoted(tmp_path: Path) -> None:
    assert content(pa.table({"a": ["", None], "b": [None, 1]}), tmp_path / "file") == '"a","b"\n"",\n,1\n'


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'"])
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(start: str, tmp_path: Path) -> None:
    text = content(pa.table({"a": [f"{start}1+1"]}), tmp_path / "file")
    assert text == f'"a"\n"\'{start}1+1"\n'


def test_headers_are_disarmed_and_numbers_are_left_alone(tmp_path: Path) -> None:
    assert content(pa.table({"=1+1": [-5], "b": ["a=b"]}), tmp_path / "file") == '"\'=1+1","b"\n-5,"a=b"\n'


def test_bytes_depend_on_rows_alone(tmp_path: Path) -> None:
    content(pa.table({"a": [1]}), tmp_path / "one.csv.gz")
    header = (tmp_path / "one.csv.gz").read_bytes()[:10]
    assert header[3] == 0, "no file name, no comment"
    assert header[4:8] == bytes(4), "no time"


@pytest.mark.parametrize("size", [64, 1000, 4 << 20])
def test_pieces_end_where_rows_end(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_output, "READ_BYTES", size)
    texts = ["short", 'a "quote"\n' * 50, "\n" * 300, '"' * 301, '"\n' * 99, "", None, "x" * 2000, '\n"\n'] * 5
    table = pa.table({"a": texts, "b": range(len(texts)), "c": texts[::-1]})
    CsvOutput().write(table.to_reader(), tmp_path / "file")
    assert CsvOutput().read(tmp_path / "file", table.schema).read_all().equals(table)


def test_texts_of_many_megabytes_come_back(tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2, 3], "letter": ['line, "quoted"\n' * 700_000, "", "é" * 5_000_000]})
    CsvOutput().write(table.to_reader(), tmp_path / "file")
    assert CsvOutput().read(tmp_path / "file", table.schema).read_all().equals(table)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([2_932_897], pa.int32()).cast(pa.date32()),
        pa.array([-719_163], pa.int32()).cast(pa.date32()),
        pa.array([253_402_300_800], pa.int64()).cast(pa.timestamp("s")),
        pa.array([-62_135_596_800_001], pa.int64()).cast(pa.timestamp("ms", "UTC")),
        pa.array([-(2**63) + 1], pa.int64()).cast(pa.timestamp("ns")),
        pa.array([86_400_000_000], pa.int64()).cast(pa.time64("us")),
    ],
    ids=lambda values: str(values.type),
)
def test_moments_without_iso_text_are_refused(values: pa.Array, tmp_path: Path) -> None:
    table = pa.table({"n": [1], "at": values})
    with pytest.raises(DataError, match=r"^column 'at' \(.*ISO 8601.*cast it to text in the query, or publish parquet"):
        CsvOutput().write(table.to_reader(), tmp_path / "file")


def test_a_nested_type_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^column 'tags' \(list<.*string>\): CSV cannot hold"):
        CsvOutput().write(pa.table({"tags": [["a"]]}).to_reader(), tmp_path / "file")


def test_pandas_and_duckdb_read_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "visits.csv.gz"
    table = pa.table({"id": ["0012", ""], "note": ['say "hi",\nthere', None], "at": [datetime(2024, 1, 1, 8), None]})
    CsvOutput().write(table.to_reader(), path)
    frame = pd.read_csv(path, dtype={"id": str}, parse_dates=["at"])
    assert frame["id"][0] == "0012"
    assert frame["note"][0] == 'say "hi",\nthere'
    assert frame["at"][0] == pd.Timestamp(2024, 1, 1, 8)
    with duckdb.connect() as connection:
        found = connection.sql(f"FROM read_csv('{path}', all_varchar = false, types = {{'id': 'VARCHAR'}})").fetchall()
    assert found[0] == ("0012", 'say "hi",\nthere', datetime(2024, 1, 1, 8))
