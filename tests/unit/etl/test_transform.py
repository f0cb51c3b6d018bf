"""Transform: which version of a row stays, own steps, names; on real Parquet parts."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.etl import duck, ranges, transforms
from include.etl.completeness.extraction import FILE
from include.etl.config import Source
from include.etl.errors import ConfigurationError, DataError
from include.etl.handover import Extracted, Plan, Slice, Window
from include.etl.names import snake_case
from include.etl.phases.transform import transform
from include.etl.records.run import Run
from include.etl.storage import Storage, write_json

NOW = datetime(2024, 3, 1, tzinfo=UTC)


def source(**changes: Any) -> Source:
    base: dict[str, Any] = {
        "source": "visits",
        "description": "Visits",
        "conn_id": "clinic",
        "table": "visits",
        "primary_key": ["id"],
        "cursor": {"column": "at"},
        "schedule": {"full": "0 2 * * *"},
        "output": {"formats": ["parquet"]},
    }
    return Source.model_validate(base | changes)


def transformed(folder: Path, tables: list[pa.Table], **changes: Any) -> pa.Table:
    storage = Storage(folder)
    run = Run(source(**changes), "run", storage)
    raw = storage.folder("raw", "visits")
    for number, table in enumerate(tables):
        pq.write_table(table, raw / f"{number}.parquet")
    parts = [f"raw/visits/{number}.parquet" for number in range(len(tables))]
    rows = sum(table.num_rows for table in tables)
    write_json(raw / FILE, {"source": None, "raw": {"rows": rows}})
    handed = Extracted(slice=Slice(), parts=parts, rows=rows, bytes=0, query_hash="", extracted_at=NOW)
    result = transform(run, Plan(run_id="run", window=Window(mode="full", end=NOW)), [handed])
    table = pq.read_table(storage.absolute(result.parts[0]))
    assert rows == table.num_rows + sum(result.removed.values())
    return table


def rows_of(*rows: tuple[Any, Any, Any]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [[], [], []]
    schema = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us")), ("note", pa.string())])
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema)


def day(number: int) -> datetime:
    return datetime(2024, 1, number)


@pytest.mark.parametrize(("load", "notes"), [("merge", ["new", "only"]), ("append", ["old", "new", "only"])])
def test_versions_of_a_key_across_parts(tmp_path: Path, load: str, notes: list[str]) -> None:
    tables = [rows_of((1, day(3), "new"), (2, day(1), "only")), rows_of((1, day(2), "old"))]
    assert transformed(tmp_path, tables, load=load).column("note").to_pylist() == notes


@pytest.mark.parametrize(("load", "notes"), [("merge", ["a", "d"]), ("append", ["a", "d", "c"])])
def test_a_row_without_cursor_value_is_a_version(tmp_path: Path, load: str, notes: list[str]) -> None:
    table = transformed(tmp_path, [rows_of((1, None, "a"), (2, None, "c"), (2, day(1), "d"))], load=load)
    assert table.column("note").to_pylist() == notes


@pytest.fixture(params=[3, 5_000_000], ids=["many passes", "one pass"])
def _at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duck, "KEYS_AT_ONCE", request.param)


@pytest.mark.usefixtures("_at_once")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from([None, 1, 2, 3]), st.sampled_from([None, day(1), day(2)]), st.text(max_size=3)),
        unique_by=lambda row: row[:2] if row[0] is not None else object(),
    )
)
@pytest.mark.parametrize("load", ["merge", "append"])
def test_each_key_or_version_comes_once(
    tmp_path_factory: pytest.TempPathFactory, load: str, rows: list[tuple[Any, Any, Any]]
) -> None:
    table = transformed(tmp_path_factory.mktemp("data"), [rows_of(*rows[::2]), rows_of(*rows[1::2])], load=load)
    published = [(row["id"], row["at"]) for row in table.to_pylist()]
    keyed = {(key, at) for key, at, _ in rows if key is not None}
    if load == "merge":
        newest = {key: max((at for one, at in keyed if one == key and at), default=None) for key, _ in keyed}
        keyed = set(newest.items())
    assert len(published) == len(keyed) + sum(row[0] is None for row in rows)
    assert {one for one in published if one[0] is not None} == keyed


def test_a_value_that_does_not_convert_is_not_shown_where_ranges_are_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "RANGE_ROWS", 10)
    numbers = [rows_of(*((n, day(1), str(n)) for n in range(start, start + 10))) for start in (0, 10, 20)]
    numbers.append(rows_of((30, day(1), "S1234567D")))
    with pytest.raises(DataError, match="column 'note': 1 rows do not convert to INTEGER") as error:
        transformed(tmp_path, numbers, transform={"types": {"note": "INTEGER"}})
    assert "S1234567D" not in str(error.value)


NUMBERS = [
    (pa.array([Decimal("7.55")]), "DECIMAL(10,1)", None),
    (pa.array([Decimal("7.50")]), "DECIMAL(10, 1)", Decimal("7.5")),
    (pa.array([Decimal("7.5")]), "INTEGER", None),
    (pa.array([Decimal("7.0")]), "BIGINT", 7),
    (pa.array([Decimal("12345678901234567890.12")]), "DOUBLE", None),
    (pa.array([7.5]), "INTEGER", None),
    (pa.array([7.555]), "DECIMAL(10,2)", None),
    (pa.array([0.1]), "DECIMAL(10,2)", Decimal("0.10")),
    (pa.array([0.1]), "FLOAT", None),
    (pa.array([2**53 + 1]), "DOUBLE", None),
    (pa.array([2**31]), "INTEGER", None),
    (pa.array([1]), "DECIMAL(5,4)", Decimal("1.0000")),
    (pa.array([10]), "DECIMAL(5,4)", None),
    (pa.array(["7.555"]), "DECIMAL(10,2)", None),
    (pa.array(["7.550"]), "DECIMAL(10,2)", Decimal("7.55")),
    (pa.array(["7.0001"]), "NUMERIC", None),
    (pa.array(["7.5"]), "integer", None),
    (pa.array(["7.0"]), "integer", 7),
    (pa.array(["1.5e-3"]), "DECIMAL(10,2)", None),
    (pa.array(["1.5e-1"]), "DECIMAL(10,2)", Decimal("0.15")),
    (pa.array(["7.5"]), "DECIMAL(38,38)", None),
    (pa.array(["9" * 39]), "DECIMAL(38,0)", None),
    (pa.array([Decimal("7.5")]), "DECIMAL(38,38)", None),
]


@pytest.mark.parametrize(("values", "declared", "wanted"), NUMBERS, ids=lambda given: str(given)[:40])
def test_a_number_is_converted_exactly_or_not_at_all(
    tmp_path: Path, values: pa.Array, declared: str, wanted: Decimal | int | None
) -> None:
    """DuckDB rounds 7.555 to 7.56, and 7.5 to 8, without a word."""
    table = pa.table({"id": [1, 2], "at": [day(1)] * 2, "fee": pa.concat_arrays([values, pa.nulls(1, values.type)])})
    if wanted is None:
        with pytest.raises(DataError, match=r"column 'fee': 1 rows do not convert to .* exactly"):
            transformed(tmp_path, [table], transform={"types": {"fee": declared}})
    else:
        found = transformed(tmp_path, [table], transform={"types": {"fee": declared}})["fee"].to_pylist()
        assert found == [wanted, None]


@pytest.mark.usefixtures("_at_once")
def test_keys_that_only_trimming_makes_equal_are_refused(tmp_path: Path) -> None:
    keys = [f"{name}{' ' * (number % 2)}" for number, name in enumerate("aabbccddeffghi")]
    table = pa.table({"id": keys, "at": pa.array([day(1)] * len(keys), pa.timestamp("us"))})
    with pytest.raises(DataError, match="5 primary keys come twice after trimming"):
        transformed(tmp_path, [table])


def test_text_is_trimmed_and_metadata_added(tmp_path: Path) -> None:
    (row,) = transformed(tmp_path, [rows_of((1, day(1), " \t x y\n"))]).to_pylist()
    assert row["note"] == "x y"
    assert (row["_source"], row["_run_id"], row["_extracted_at"]) == ("visits", "run", NOW)
    assert (row["_window_start"], row["_window_end"]) == (None, NOW)


def test_exact_types_survive(tmp_path: Path) -> None:
    values = {
        "big": pa.array([2**64 - 1], pa.uint64()),
        "amount": pa.array(["12345678901234567890123456789012345678"], pa.string()).cast(pa.decimal128(38, 0)),
        "zoned": pa.array([NOW], pa.timestamp("us", "UTC")),
        "raw": pa.array([b"\x00\xff"]),
        "early": pa.array([datetime(1, 1, 1).date()], pa.date32()),
        "ratio": pa.array([float("inf")], pa.float32()),
    }
    table = rows_of((1, day(1), "x"))
    for name, value in values.items():
        table = table.append_column(name, value)
    found = transformed(tmp_path, [table])
    for name, value in values.items():
        assert found.column(name).type == value.type
        assert found.column(name).to_pylist() == value.to_pylist()


def test_own_steps_in_sql_and_pandas(tmp_path: Path) -> None:
    visits = pa.table(
        {
            "id": [3, 1, 2, 4],
            "at": pa.array([day(1)] * 4, pa.timestamp("us")),
            "patient_id": [7, 7, 8, 8],
            "visit_id": [3, 1, 2, 4],
            "visit_date": [day(2).date(), day(1).date(), day(1).date(), day(3).date()],
            "systolic_bp": pa.array([119, 145, None, 999], pa.int32()),
        }
    )
    found = transformed(tmp_path, [visits], transform={"steps": ["visit_ordinal", "blood_pressure_class"]})
    assert found.column("visit_ordinal").to_pylist() == [1, 1, 2, 2]
    assert found.column("blood_pressure_class").to_pylist() == ["grade 1", None, "optimal", None]
    assert found.column("systolic_bp").type == pa.int32()


def test_own_step_on_no_rows_keeps_the_columns(tmp_path: Path) -> None:
    empty = rows_of().append_column("systolic_bp", pa.array([], pa.int32()))
    found = transformed(tmp_path, [empty], transform={"steps": ["blood_pressure_class"]})
    assert "blood_pressure_class" in found.schema.names


def test_batches_of_an_own_step_whose_numbers_are_of_other_types_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow would make a float of the second batch's decimal, and say nothing."""
    import pandas as pd

    def float_first(frame: pd.DataFrame) -> pd.DataFrame:
        kind = pa.float64() if frame["id"].iloc[0] == 1 else pa.decimal128(30, 2)
        fees = pa.array([Decimal("12345678901234567890.12").quantize(Decimal("0.01"))] * len(frame))
        return frame.assign(fee=pd.arrays.ArrowExtensionArray(fees.cast(kind)))

    monkeypatch.setattr(transforms, "BATCH_ROWS", 2048)
    monkeypatch.setitem(transforms.TRANSFORMS, "blood_pressure_class", "any:float_first")
    monkeypatch.setattr(transforms, "import_module", lambda _: SimpleNamespace(float_first=float_first))
    rows = rows_of(*((number, day(1), "x") for number in range(1, 5000)))
    with pytest.raises(DataError, match="'blood_pressure_class': its batches differ"):
        transformed(tmp_path, [rows], transform={"steps": ["blood_pressure_class"]})


def test_error_of_an_own_step_tells_the_place_but_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'blood_pressure_class' raised KeyError in blood_pressure_class.py, line \d+"):
        transformed(tmp_path, [rows_of((1, day(1), "S1234567D"))], transform={"steps": ["blood_pressure_class"]})


def test_two_columns_cannot_get_one_name(tmp_path: Path) -> None:
    table = rows_of((1, day(1), "x")).append_column("no te", pa.array(["y"]))
    with pytest.raises(ConfigurationError, match="'note', which another column"):
        transformed(tmp_path, [table], transform={"rename": {"no te": "note"}})


def test_conversion_of_an_unknown_column_lists_the_columns(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="column 'fee' does not exist; allowed: id, at, note"):
        transformed(tmp_path, [rows_of((1, day(1), "x"))], transform={"types": {"fee": "DATE"}})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("VisitDate", "visit_date"),
        ("Visit date", "visit_date"),
        ("VISIT-DATE", "visit_date"),
        ("HTTPServerID", "http_server_id"),
        ("icd10Code", "icd10_code"),
        ("Größe", "größe"),
        ("%", "column"),
    ],
)
def test_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected


def test_every_registered_transformation_exists() -> None:
    folder = Path(transforms.__file__).parent
    for target in transforms.TRANSFORMS.values():
        assert (folder / target).exists() or ":" in target
