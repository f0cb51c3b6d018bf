"""Which columns can be read together: what `widens` allows is shown by the readers themselves."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.etl.publication.schema import differences, widens

VALUES: dict[pa.DataType, list[object]] = {
    pa.int8(): [-128, 127],
    pa.int32(): [-(2**31), 2**31 - 1],
    pa.int64(): [-(2**63), 2**63 - 1],
    pa.uint32(): [0, 2**32 - 1],
    pa.uint64(): [0, 2**64 - 1],
    pa.float32(): [0.5, 1e30],
    pa.float64(): [0.1, 1e300],
    pa.decimal128(10, 2): ["99999999.99", "-0.01"],
    pa.decimal128(12, 2): ["9999999999.99"],
    pa.decimal128(12, 4): ["99999999.9999"],
    pa.decimal128(38, 2): ["1.25"],
    pa.decimal256(45, 2): ["1.25"],
    pa.string(): ["0012", ""],
    pa.bool_(): [True],
    pa.date32(): [0],
    pa.timestamp("ms"): [1],
    pa.timestamp("us"): [1],
    pa.timestamp("ns"): [1],
    pa.timestamp("us", "UTC"): [1],
    pa.binary(): [b"x"],
}


def array(kind: pa.DataType) -> pa.Array:
    return pa.array(VALUES[kind]).cast(kind) if pa.types.is_decimal(kind) else pa.array(VALUES[kind], kind)


@pytest.mark.parametrize(("old", "new"), [pair for pair in permutations(VALUES, 2) if widens(*pair)], ids=str)
def test_widened_types_are_read_together_without_changing_a_value(
    tmp_path: Path, old: pa.DataType, new: pa.DataType
) -> None:
    expected = [*array(old).cast(new), *array(new)]
    for name, kind in (("a", old), ("b", new)):
        pq.write_table(pa.table({"c": array(kind)}), tmp_path / f"{name}.parquet")
    schemas = [pa.schema([("c", kind)]) for kind in (old, new)]
    unified = pa.unify_schemas(schemas, promote_options="permissive")
    assert unified.field("c").type == new
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        read = f"SELECT c FROM read_parquet(['{tmp_path}/a.parquet', '{tmp_path}/b.parquet'], union_by_name = true)"
        found = connection.sql(read).to_arrow_table().column("c")
    assert found.cast(new).to_pylist() == [value.as_py() for value in expected]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (pa.string(), pa.int64()),
        (pa.int64(), pa.string()),
        (pa.int64(), pa.int32()),
        (pa.int64(), pa.float64()),
        (pa.uint64(), pa.int64()),
        (pa.int32(), pa.uint64()),
        (pa.int64(), pa.decimal128(12, 2)),
        (pa.decimal128(12, 2), pa.decimal128(12, 4)),
        (pa.decimal128(12, 4), pa.decimal128(14, 2)),
        (pa.decimal128(10, 2), pa.float64()),
        (pa.decimal128(38, 2), pa.decimal256(45, 2)),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (pa.timestamp("us"), pa.timestamp("ns")),
        (pa.timestamp("us"), pa.timestamp("ms")),
        (pa.date32(), pa.timestamp("us")),
        (pa.float64(), pa.float32()),
        (pa.string(), pa.binary()),
    ],
    ids=str,
)
def test_what_would_change_a_value_or_its_meaning_is_no_widening(old: pa.DataType, new: pa.DataType) -> None:
    assert not widens(old, new)


def test_differences_are_told_by_name_and_a_new_name_is_guessed() -> None:
    old = pa.schema([("id", pa.int32()), ("fee", pa.float64()), ("note", pa.string()), ("_run_id", pa.string())])
    new = pa.schema([("id", pa.int64()), ("price", pa.float64()), ("extra", pa.date32()), ("_deleted_at", pa.date32())])
    assert [str(change) for change in differences(old, new)] == [
        "column 'id' was int32, is int64",
        "column 'fee' is missing (it was double); perhaps it is called 'price' now: same place, same type",
        "column 'note' is missing (it was string)",
        "column 'price' is new (double)",
        "column 'extra' is new (date32[day])",
    ]
    assert differences(old, pa.schema(reversed(list(old)))) == []


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        (pa.time32("s"), pa.time64("us"), True),
        (pa.time64("us"), pa.time32("ms"), False),
        (pa.timestamp("ms"), pa.timestamp("us"), True),
        (pa.timestamp("ns"), pa.timestamp("us"), False),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), False),
    ],
)
def test_times_may_become_finer_and_never_coarser(old: pa.DataType, new: pa.DataType, allowed: bool) -> None:
    assert widens(old, new) is allowed


@pytest.mark.parametrize("place", range(3))
def test_a_column_that_is_missing_in_any_place(place: int) -> None:
    """The one of the same type that is new in its place is perhaps the same; else nothing is guessed."""
    old = pa.schema([(name, pa.string()) for name in "abc"])
    gone, renamed = old.remove(place), old.set(place, pa.field("new", pa.string()))
    (missing,) = differences(old, gone)
    assert (missing.kind, missing.column, missing.hint) == ("missing", "abc"[place], "")
    found = {change.kind: change for change in differences(old, renamed)}
    assert found.keys() == {"missing", "new"}
    assert found["missing"].hint == "perhaps it is called 'new' now: same place, same type"
    other = old.set(place, pa.field("new", pa.int64()))
    assert {change.hint for change in differences(old, other)} == {""}
