"""What every output format promises: rows come back equal, errors say what to do, memory stays flat."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator
from datetime import datetime, time
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.etl.errors import DataError, StorageError
from include.etl.outputs import OUTPUTS, open_output
from include.etl.outputs.base import Output

YEAR_1 = datetime(1, 1, 1)
YEAR_9999 = datetime(9999, 12, 31, 23, 59, 59, 999999)
MOMENTS = [
    YEAR_1,
    datetime(1899, 12, 31, 12),
    datetime(1900, 2, 28, 23, 59, 59, 999000),
    datetime(1900, 3, 1),
    datetime(1969, 12, 31, 23, 59, 59, 999999),
    datetime(1970, 1, 1),
    datetime(2024, 2, 29, 8, 30, 15, 123000),
    datetime(2024, 2, 29, 8, 30, 15, 123456),
    datetime(2024, 2, 29, 23, 59, 59, 999000),
    datetime(9999, 12, 31, 23, 59, 59, 999000),
    YEAR_9999,
]
TEXTS = [
    "", " ", " padded ", "null", "NULL", "nan", "#N/A", "true", "00123", "1234567890123456", "1e5", "2024-01-01",
    'say "hi"', '"', '""', ",", ";", "a,b", "a\nb", "a\r\nb", "a\rb", "\n", "\r", "\t", "\ttab", "\rcr", "\nlf",
    "=1+1", "=HYPERLINK(\"http://x\")", "+65 6123 4567", "-5", "@SUM(A1)", "'", "''", "'=1", "'quoted'", "＝1+1",
    "-", "--", "陈大文", "தமிழ்", "👩‍⚕️ 🇸🇬", "e\u0301", "\ufeffbom", "\x00", "a\x01\x1f\x7fb", "\ufffe\uffff",
    "\u2028\u0085", "<b>&amp;</b>", "]]>", "_x000D_", "_x0041_x0042_", "_x0041\x02", "_x005F_", "__x0041_", "\\N", "\\",
]  # fmt: skip
FLOATS = [
    0.0,
    -0.0,
    1.5,
    0.1,
    -1e-5,
    math.nan,
    math.inf,
    -math.inf,
    5e-324,
    1.7976931348623157e308,
    1e22,
    123456789.123,
]
HUGE, VASTER = "9" * 38, "9" * 76


def decimals(*values: str, precision: int, scale: int) -> pa.Array:
    type_ = pa.decimal128 if precision <= 38 else pa.decimal256
    return pa.array([*map(Decimal, values), None], type_(precision, scale))


COLUMNS: dict[str, pa.Array] = {
    **{
        str(type_): pa.array([-(2 ** (type_.bit_width - 1)), -1, 0, 7, 2 ** (type_.bit_width - 1) - 1, None], type_)
        for type_ in (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    },
    **{
        str(type_): pa.array([0, 7, 2**type_.bit_width - 1, None], type_)
        for type_ in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    },
    "int64 around 15 digits": pa.array([10**15 - 1, 10**15, -(10**15) + 1, -(10**15), 1234567890123456, 10**17]),
    "float64": pa.array([*FLOATS, None], pa.float64()),
    "float32": pa.array([0.0, -0.0, 0.1, 3.4028234e38, 1e-45, math.nan, math.inf, -math.inf, None], pa.float32()),
    "decimal128(10, 2)": decimals("0.00", "-0.01", "99999999.99", precision=10, scale=2),
    "decimal128(38, 0)": decimals(HUGE, f"-{HUGE}", "0", "1", precision=38, scale=0),
    "decimal128(38, 38)": decimals(f"0.{HUGE}", "1E-38", "0", precision=38, scale=38),
    "decimal128(38, 10)": decimals("0", "12.5", "1E-10", "99999.1234567890", "12345678.9", precision=38, scale=10),
    "decimal256(76, 20)": decimals(f"{VASTER}E-20", f"-{VASTER}E-20", "1E-20", precision=76, scale=20),
    "bool": pa.array([True, False, None]),
    "string": pa.array([*TEXTS, None]),
    "large_string": pa.array([*TEXTS, None], pa.large_string()),
    "binary": pa.array([b"", b"\x00\xff", b"=1+1", b"text", None]),
    "fixed_size_binary": pa.array([b"\x00\xff", None], pa.binary(2)),
    "date32": pa.array([moment.date() for moment in MOMENTS] + [None], pa.date32()),
    "time64[us]": pa.array([time(0), time(23, 59, 59, 999999), time(12, 30), None], pa.time64("us")),
    "time64[ns]": pa.array([1, 86_399_999_999_999, None], pa.time64("ns")),
    "time32[s]": pa.array([time(0), time(23, 59, 59), None], pa.time32("s")),
    "timestamp[us]": pa.array([*MOMENTS, None], pa.timestamp("us")),
    "timestamp[us, UTC]": pa.array([*MOMENTS, None], pa.timestamp("us", "UTC")),
    "timestamp[us, Singapore]": pa.array([datetime(2024, 1, 1), None], pa.timestamp("us", "Asia/Singapore")),
    "timestamp[s]": pa.array([datetime(2024, 1, 1), YEAR_1, None], pa.timestamp("s")),
    "timestamp[ms]": pa.array([datetime(2024, 1, 1, 0, 0, 0, 5000), YEAR_1, None], pa.timestamp("ms")),
    "timestamp[ns]": pa.array([0, -1, 10**18 + 1, -9_223_372_036 * 10**9, 2**63 - 1, None], pa.timestamp("ns")),
    "timestamp[ns, UTC]": pa.array([0, -1, 2**63 - 1, None], pa.timestamp("ns", "UTC")),
    "timestamp[s, UTC]": pa.array([0, -1, None], pa.timestamp("s", "UTC")),
    "time32[ms]": pa.array([1, 86_399_999, None], pa.time32("ms")),
    "date64": pa.array([0, -86_400_000, 253_402_214_400_000, None], pa.date64()),
    "large_binary": pa.array([b"", b"\x00\xff", None], pa.large_binary()),
    "decimal32(9, 2)": pa.array([Decimal("-9999999.99"), Decimal("0.01"), None], pa.decimal32(9, 2)),
    "decimal64(18, 0)": pa.array([Decimal("-" + "9" * 18), None], pa.decimal64(18, 0)),
    "null": pa.nulls(3),
}  # fmt: skip

VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(),
    pa.float32(): st.floats(width=32),
    pa.decimal128(38, 10): st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(f"{n}E-10")),
    pa.decimal128(12, 6): st.integers(-(10**12) + 1, 10**12 - 1).map(lambda n: Decimal(f"{n}E-6")),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("=+-@'\"\t\r\n_x0041,<&")),
    pa.binary(): st.binary(max_size=20),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.time64("us"): st.times(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("us", "UTC"): st.datetimes(),
}


@pytest.fixture(params=sorted(OUTPUTS))
def output(request: pytest.FixtureRequest) -> Output:
    return open_output(request.param)


def write(output: Output, table: pa.Table, path: Path, batch_rows: int = 1000) -> int:
    return output.write(table.to_reader(max_chunksize=batch_rows), path)


def exact(table: pa.Table) -> dict[str, list[str]]:
    """Values in a form where NaN equals itself, -0.0 differs from 0.0 and instants are compared as integers."""
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        temporal = pa.types.is_timestamp(column.type)
        columns[name] = [repr(value) for value in (column.cast(pa.int64()) if temporal else column).to_pylist()]
    return columns


def assert_comes_back(output: Output, table: pa.Table, path: Path, batch_rows: int = 1000) -> None:
    assert write(output, table, path, batch_rows) == table.num_rows
    back = output.read(path, table.schema).read_all()
    assert back.schema == table.schema
    assert exact(back) == exact(table)
    assert output.count(path, table.schema) == table.num_rows


@pytest.mark.parametrize("name", COLUMNS)
def test_values_of_every_type_come_back_equal(output: Output, name: str, tmp_path: Path) -> None:
    values = COLUMNS[name]
    assert_comes_back(output, pa.table({"n": range(len(values)), name: values}), tmp_path / "file")


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_on_its_own_comes_back_equal_even_where_it_is_null(output: Output, name: str, tmp_path: Path) -> None:
    values = pa.concat_arrays([pa.nulls(2, COLUMNS[name].type), COLUMNS[name], pa.nulls(2, COLUMNS[name].type)])
    assert_comes_back(output, pa.table({name: values}), tmp_path / "file", batch_rows=3)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("name", sorted(OUTPUTS))
def test_any_values_come_back_equal(name: str, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 5))
    columns = {
        str(type_): pa.array(data.draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), type_)
        for type_, values in VALUES.items()
    }
    with TemporaryDirectory() as folder:
        assert_comes_back(open_output(name), pa.table(columns), Path(folder) / "file", batch_rows=2)


@pytest.mark.parametrize("batches", [[], [0], [0, 3, 0]])
def test_no_rows_and_empty_batches_give_a_valid_file_with_all_columns(
    output: Output, batches: list[int], tmp_path: Path
) -> None:
    schema = pa.schema([(name, values.type) for name, values in COLUMNS.items()])
    parts = [pa.RecordBatch.from_arrays([pa.nulls(n, type_) for type_ in schema.types], schema=schema) for n in batches]
    assert output.write(pa.RecordBatchReader.from_batches(schema, parts), tmp_path / "file") == sum(batches)
    back = output.read(tmp_path / "file", schema).read_all()
    assert (back.schema, back.num_rows) == (schema, sum(batches))


def test_odd_column_names_come_back(output: Output, tmp_path: Path) -> None:
    names = ["", "a,b", '"', "=1+1", "'x", "two\nlines", "_x0041_", "<&>", "a.b", "名"]
    assert_comes_back(output, pa.table([[i] for i in range(len(names))], names), tmp_path / "file")


def test_a_stream_of_slices_is_written_as_the_slices(output: Output, tmp_path: Path) -> None:
    whole = pa.table({"n": range(100), "text": [str(n) * 3 for n in range(100)]})
    assert_comes_back(output, whole.slice(17, 40), tmp_path / "file", batch_rows=7)


def test_the_same_rows_give_the_same_bytes(output: Output, tmp_path: Path) -> None:
    table = pa.table(
        {name: values.take(pa.array([0, 1, 2] * 500)) for name, values in COLUMNS.items() if len(values) > 2}
    )
    write(output, table, tmp_path / "one", batch_rows=1500)
    write(output, table, tmp_path / "another", batch_rows=7)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "another").read_bytes()


def test_columns_other_than_expected_are_named(output: Output, tmp_path: Path) -> None:
    write(output, pa.table({"visit_id": [1], "fee": [2]}), tmp_path / "file")
    with pytest.raises(DataError, match=r"'visit_id', 'fee'.*expected \['visit_id', 'price'\]"):
        output.read(tmp_path / "file", pa.schema([("visit_id", pa.int64()), ("price", pa.int64())])).read_all()


def test_a_type_that_the_format_lacks_is_refused_before_a_file_appears(output: Output, tmp_path: Path) -> None:
    table = pa.table({"n": [1], "stay": pa.array([None], pa.month_day_nano_interval())})
    with pytest.raises(DataError, match=r"'stay' \(month_day_nano_interval\).*cast it to text"):
        write(output, table, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_decimal_of_negative_scale_comes_back_or_is_refused_by_name(output: Output, tmp_path: Path) -> None:
    table = pa.table({"fee": pa.array([Decimal(12300), Decimal(-100), None], pa.decimal128(5, -2))})
    if output.extension == "parquet":
        with pytest.raises(DataError, match=r"'fee' \(decimal128\(5, -2\)\): Parquet cannot hold this type; cast it"):
            write(output, table, tmp_path / "file")
        assert not (tmp_path / "file").exists()
    else:
        assert_comes_back(output, table, tmp_path / "file")


def test_a_file_that_exists_is_not_touched(output: Output, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(StorageError, match=r"cannot write .*file.*File exists"):
        write(output, pa.table({"n": [1]}), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_missing_folder_is_a_storage_error(output: Output, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*nowhere.*No such file"):
        write(output, pa.table({"n": [1]}), tmp_path / "nowhere" / "file")


def test_a_full_disk_is_a_storage_error(output: Output, tmp_path: Path) -> None:
    table = pa.table({"text": [f"{n * 7919 % 1_000_003:x}" for n in range(200_000)]})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*file.*File too large"):
            write(output, table, tmp_path / "file", batch_rows=10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_missing_file_is_a_storage_error(output: Output, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*file.*No such file"):
        output.read(tmp_path / "file", pa.schema([("n", pa.int64())])).read_all()


@pytest.mark.parametrize("keep", [0, 10, -20])
def test_a_damaged_file_is_a_storage_error(output: Output, keep: int, tmp_path: Path) -> None:
    table = pa.table({"text": [str(n * 7919) for n in range(1000)]})
    write(output, table, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(content[:keep])
    with pytest.raises(StorageError, match=r"cannot read .*file"):
        output.read(tmp_path / "file", table.schema).read_all()


def test_values_that_do_not_fit_the_schema_are_not_shown(output: Output, tmp_path: Path) -> None:
    write(output, pa.table({"nric": ["S1234567A"]}), tmp_path / "file")
    with pytest.raises(StorageError, match="not written with this schema") as caught:
        output.read(tmp_path / "file", pa.schema([("nric", pa.int64())])).read_all()
    assert caught.value.__suppress_context__
    assert "S1234567A" not in str(caught.value)


class SourceLost(Exception):
    """Stands for an engine's error in mid-stream."""


def test_an_error_of_the_source_passes_unchanged_and_leaves_no_file_open(output: Output, tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"n": [1]})
        raise SourceLost("in mid-stream")

    with pytest.raises(SourceLost, match="in mid-stream"):
        output.write(pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), batches()), tmp_path / "file")
    (tmp_path / "file").unlink(missing_ok=True)
    assert write(output, pa.table({"n": [1]}), tmp_path / "file") == 1


def test_memory_does_not_grow_with_the_stream(output: Output, tmp_path: Path) -> None:
    """240 MB pass through, made as they are asked for; no more than one row group of Parquet may be alive at once."""
    before = pa.total_allocated_bytes()
    alive: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(300):
            alive.append(pa.total_allocated_bytes() - before)
            yield pa.record_batch([pa.array(["x" * 400] * 2000)], schema)

    schema = pa.schema([("text", pa.string())])
    assert output.write(pa.RecordBatchReader.from_batches(schema, batches()), tmp_path / "file") == 600_000
    assert max(alive) < 100_000_000
    assert pa.total_allocated_bytes() - before < 5_000_000
