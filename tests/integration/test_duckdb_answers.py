"""Questions to DuckDB that everything rests on: conditions, order, sums, times. They are asked at every upgrade.

The right answer is Python's, or the engine's own found another way. DuckDB 2.0.0 failed the first one: IS NULL held for
every row of a Parquet row group whose values were all the same beside a NULL.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.etl import duck
from include.etl.duck import parquet

MANY = 200_000
DAY = datetime(2024, 3, 31)
COLUMNS: dict[str, tuple[pa.DataType, Any]] = {
    "text": (pa.string(), lambda n: f"note {n}"),
    "number": (pa.int64(), lambda n: n),
    "small": (pa.int8(), lambda n: n % 100),
    "float": (pa.float64(), lambda n: n / 4),
    "decimal": (pa.decimal128(12, 2), lambda n: Decimal(n) / 4),
    "wide": (pa.decimal128(38, 10), lambda n: Decimal(n) / 4),
    "date": (pa.date32(), lambda n: date(2000, 1, 1) + timedelta(days=n % 9000)),
    "time": (pa.time64("us"), lambda n: time(n % 24, n % 60, n % 60, n % 1000)),
    "naive": (pa.timestamp("us"), lambda n: DAY + timedelta(seconds=n)),
    "zoned": (pa.timestamp("us", "UTC"), lambda n: (DAY + timedelta(seconds=n)).replace(tzinfo=UTC)),
    "nanoseconds": (pa.timestamp("ns"), lambda n: DAY + timedelta(microseconds=n)),
    "boolean": (pa.bool_(), lambda n: n % 2 == 0),
    "bytes": (pa.binary(), lambda n: f"{n}".encode()),
}


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """As every task has it."""
    with duck.session(512, tmp_path / "scratch") as found:
        yield found


def one(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The only value of a query."""
    ((found,),) = connection.execute(sql).fetchall()
    return found


def stored(path: Path, columns: dict[str, pa.Array], group: int = MANY, *, dictionary: bool = True) -> str:
    """A Parquet file of these columns as a table of DuckDB."""
    pq.write_table(pa.table(columns), path, row_group_size=group, use_dictionary=dictionary)
    return parquet([path])


def held(type_: pa.DataType, make: Any, rows: int, missing: Sequence[int], *, constant: bool) -> pa.Array:
    """So many values, all the same or all their own, NULL at these places."""
    values = [make(7 if constant else n) for n in range(rows)]
    for place in missing:
        values[place] = None
    return pa.array(values, type_)


@pytest.mark.parametrize("dictionary", [True, False], ids=["dictionary", "plain"])
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "distinct"])
@pytest.mark.parametrize("rows", [2, 3, 1000])
def test_is_null(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, rows: int, constant: bool, dictionary: bool
) -> None:
    """In the first row group, in the second, in none; with one NULL, with all but one, with all."""
    for missing in ([], [0], [rows - 1], range(rows - 1), range(rows)):
        group = {name: held(*column, rows, missing, constant=constant) for name, column in COLUMNS.items()}
        other = {name: held(*column, rows, [], constant=constant) for name, column in COLUMNS.items()}
        two = {name: pa.concat_arrays([other[name], group[name], other[name]]) for name in COLUMNS}
        several = stored(tmp_path / "several.parquet", two, rows, dictionary=dictionary)
        for table, total in (
            (stored(tmp_path / "one.parquet", group, dictionary=dictionary), rows),
            (several, 3 * rows),
        ):
            asked = [
                f"count(*) FILTER ({name} IS NULL), count(*) FILTER ({name} IS NOT NULL), count(*) - count({name}), "
                f"count(*) FILTER ({name} IS NOT DISTINCT FROM NULL), sum(CASE WHEN {name} IS NULL THEN 1 ELSE 0 END)"
                for name in (f'"{column}"' for column in COLUMNS)
            ]
            found = connection.execute(f"SELECT {', '.join(asked)} FROM {table}").fetchone()
            gone = len(missing)
            assert found == (gone, total - gone, gone, gone, gone) * len(COLUMNS)
            if gone != 1:
                continue
            for name in (f'"{column}"' for column in COLUMNS):
                assert one(connection, f"SELECT count(*) FROM {table} WHERE {name} IS NULL") == gone, name


@pytest.mark.parametrize("dictionary", [True, False], ids=["dictionary", "plain"])
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "distinct"])
def test_is_null_in_a_large_row_group(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, constant: bool, dictionary: bool
) -> None:
    places = [0, 2047, 2048, 122_880, MANY - 1]
    numbers = pa.array(range(MANY))
    texts = pa.array(["same"] * MANY) if constant else numbers.cast(pa.string())
    columns = {"text": texts, "number": pa.array([7] * MANY) if constant else numbers}
    columns["decimal"] = columns["number"].cast(pa.decimal128(21, 2))
    columns["moment"] = columns["number"].cast(pa.timestamp("us"))
    gone = pa.array([place in set(places) for place in range(MANY)])
    holed = {name: pa.compute.if_else(gone, None, values) for name, values in columns.items()}
    table = stored(tmp_path / "large.parquet", holed, MANY // 2, dictionary=dictionary)
    for name in columns:
        rows = f"SELECT file_row_number FROM {parquet([tmp_path / 'large.parquet'], numbered=True)}"
        assert connection.execute(f"{rows} WHERE {name} IS NULL ORDER BY 1").fetchall() == [(n,) for n in places]
        assert one(connection, f"SELECT count(*) FROM {table} WHERE {name} IS NOT NULL") == MANY - len(places)
        assert one(connection, f"SELECT count(*) FROM {table} WHERE NOT coalesce({name} = {name}, false)") == len(
            places
        )


@pytest.mark.parametrize("column", [name for name in COLUMNS if name != "boolean"])
def test_conditions_skip_no_row_group_that_has_rows(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, column: str
) -> None:
    """With the files' statistics and without: a table in memory has none."""
    type_, make = COLUMNS[column]
    order = random.Random(7).sample(range(2000), 2000)
    values = pa.array([None if n % 50 == 0 else make(n) for n in [*range(2000), *order]], type_)
    name, table = f'"{column}"', stored(tmp_path / "groups.parquet", {column: values}, 100)
    connection.execute(f"CREATE TEMP TABLE memory AS SELECT * FROM {table}")
    for bound in (1, 99, 101, 777, 1999):
        literal = f"(SELECT {name} FROM memory LIMIT 1 OFFSET {bound})"
        connection.execute(f"SET VARIABLE bound = {literal}")
        for test in ("<", "<=", "=", ">=", ">", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"):
            where = f"WHERE {name} {test} getvariable('bound')"
            asked = [f"SELECT count(*), min({name}), max({name}) FROM {rows} {where}" for rows in (table, "memory")]
            found, wanted = (connection.execute(sql).fetchall() for sql in asked)
            assert found == wanted, test
    assert connection.execute(f"SELECT min({name}), max({name}) FROM {table}").fetchall() == [
        (min(value for value in values.to_pylist() if value is not None), max(filter(None, values.to_pylist())))
    ] or column in ("nanoseconds", "zoned")


TEXTS = [
    "",
    " ",
    "a",
    "A",
    "b",
    "\u00e4",
    "a\u0308",
    "\u00e9",
    "e\u0301",
    "\u00df",
    "ss",
    "z",
    "a\x00",
    "a\x00b",
    "\x00",
]
TEXTS += ["\u4e2d", "\U0001f3e5", "\ufeff", "a ", "\u00c5", "\u212b", "A\u030a"]


def test_text_is_compared_and_ordered_by_its_bytes(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """As UTF-8, without a language: NUL, trailing blanks, combining marks, letters beyond 16 bits."""
    long = [f"{'x' * 40}{text}" for text in TEXTS]
    values = [*TEXTS, *long, None]
    table = stored(tmp_path / "texts.parquet", {"t": pa.array(values)})
    found = [text for (text,) in connection.execute(f"SELECT t FROM {table} ORDER BY t NULLS LAST").fetchall()]
    assert found == [*sorted((text for text in values if text is not None), key=str.encode), None]
    assert one(connection, f"SELECT count(DISTINCT t) FROM {table}") == len(set(values)) - 1
    for text in TEXTS:
        less = connection.execute(f"SELECT count(*) FROM {table} WHERE t < ?", [text]).fetchone()
        assert less == (sum(other is not None and other.encode() < text.encode() for other in values),)
        same = connection.execute(f"SELECT count(*), min(strlen(t)) FROM {table} WHERE t = ?", [text]).fetchone()
        assert same == (values.count(text), len(text.encode()))


def test_decimals_are_exact(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    numbers = [Decimal(n * 10**20 + n).scaleb(-10) for n in range(1, 5001)]
    table = stored(tmp_path / "wide.parquet", {"d": pa.array([*numbers, None], pa.decimal128(38, 10))}, 1000)
    total = sum(numbers, Decimal(0))
    assert one(connection, f"SELECT sum(d) FROM {table}") == total
    assert one(connection, f"SELECT sum(d::VARCHAR::DECIMAL(38,10))::VARCHAR FROM {table}") == f"{total:f}"
    assert one(connection, f"SELECT sum(replace(d::VARCHAR, '.', '')::HUGEINT) FROM {table}") == int(total.scaleb(10))
    for lossy in (
        f"SELECT d::DECIMAL(38,30) FROM {table}",
        "SELECT 7.5::DECIMAL(38,38)",
        "SELECT '7.5'::DECIMAL(38,38)",
    ):
        with pytest.raises(duckdb.ConversionException):
            connection.execute(lossy).fetchall()
    with pytest.raises(duckdb.OutOfRangeException):
        connection.execute(f"SELECT d * 1e20::DECIMAL(38,0) FROM {table}").fetchall()
    fifths = "SELECT (i % 5)::DECIMAL(10,2) / 5 AS f FROM range(10) t(i)"
    assert one(connection, f"SELECT count(*) FROM ({fifths}) WHERE f IS NULL") == 0


def test_whole_numbers_beyond_64_bits_are_summed_exactly(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    largest = 2**63 - 1
    table = stored(tmp_path / "big.parquet", {"n": pa.array([largest] * 1000 + [-1, None])})
    assert one(connection, f"SELECT sum(n) FROM {table}") == largest * 1000 - 1
    unsigned = stored(tmp_path / "unsigned.parquet", {"n": pa.array([2**64 - 1] * 1000, pa.uint64())})
    assert one(connection, f"SELECT sum(n) FROM {unsigned}") == (2**64 - 1) * 1000
    with pytest.raises(duckdb.Error):
        connection.execute(f"SELECT (n + 1)::BIGINT FROM {table} WHERE n > 0").fetchall()


def test_moments_are_utc_and_days_those_of_their_zone(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """Also in the hour that comes twice, and in the one that never comes."""
    half_hours = [datetime(2024, month, 31 if month == 3 else 27, tzinfo=UTC) for month in (3, 10)]
    moments = [start + timedelta(minutes=30 * n) for start in half_hours for n in range(8)]
    table = stored(tmp_path / "moments.parquet", {"m": pa.array(moments, pa.timestamp("us", "UTC"))})
    found = connection.execute(f"SELECT m, epoch_us(m), m::VARCHAR FROM {table} ORDER BY m").fetchall()
    for wanted, (moment, micros, text) in zip(moments, found, strict=True):
        assert moment == wanted
        assert micros == (wanted - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        assert text == f"{wanted:%Y-%m-%d %H:%M:%S}+00"
    assert one(connection, f"SELECT count(DISTINCT m) FROM {table}") == len(moments)
    literal = "TIMESTAMPTZ '2024-10-27T01:30:00+00:00'"
    assert one(connection, f"SELECT count(*) FROM {table} WHERE m < {literal}") == 8 + 3
    assert one(connection, f"SELECT ({literal})::TIMESTAMP") == datetime(2024, 10, 27, 1, 30)
    assert one(connection, f"SELECT ({literal})::DATE") == date(2024, 10, 27)
    if one(connection, "SELECT count(*) FROM duckdb_extensions() WHERE extension_name = 'icu' AND loaded"):
        assert one(connection, f"SELECT ({literal} AT TIME ZONE 'Europe/Berlin')") == datetime(2024, 10, 27, 2, 30)


def test_nanoseconds_stay(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    counts = [0, 1, 999, 1_709_251_199_123_456_789, -1, None]
    table = stored(tmp_path / "ns.parquet", {"n": pa.array(counts, pa.timestamp("ns"))})
    found = connection.execute(f"SELECT epoch_ns(n) FROM {table} ORDER BY n NULLS FIRST").fetchall()
    assert [count for (count,) in found] == [None, *sorted(count for count in counts if count is not None)]
    (column,) = connection.sql(f"SELECT n FROM {table}").to_arrow_table().columns
    assert column.type == pa.timestamp("ns")
    assert column.cast(pa.int64()).to_pylist() == counts


def test_nulls_are_last_and_ranges_put_together_are_the_whole_order(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    values = [None if n % 7 == 0 else n * 7919 % 1009 for n in range(5000)]
    table = stored(tmp_path / "order.parquet", {"n": pa.array(values), "id": pa.array(range(5000))}, 500)
    whole = connection.execute(f"SELECT n, id FROM {table} ORDER BY n, id").fetchall()
    rows = sorted(zip(values, range(5000), strict=True), key=lambda row: (row[0] is None, row[0] or 0, row[1]))
    assert whole == rows
    ranges = ["n < 300", "n >= 300 AND n < 700", "n >= 700 OR n IS NULL"]
    parts = [connection.execute(f"SELECT n, id FROM {table} WHERE {one} ORDER BY n, id").fetchall() for one in ranges]
    assert [row for part in parts for row in part] == whole


def test_what_spills_is_what_memory_gives(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    connection.execute("CREATE TEMP TABLE rows AS SELECT hash(i) AS h, i, repeat(chr(97 + (i % 26)::INT), 60) AS t "
                       "FROM range(400000) r(i)")  # fmt: skip
    path = tmp_path / "rows.parquet"
    connection.execute(f"COPY rows TO '{path}' (FORMAT parquet)")
    connection.execute("DROP TABLE rows")
    asked = [
        f"SELECT count(*), sum(n), sum(h) FROM (SELECT h, t, count(*) AS n FROM {parquet([path])} GROUP BY h, t)",
        f"SELECT count(*), sum(a.i) FROM {parquet([path])} a JOIN {parquet([path])} b ON a.h = b.h AND a.t = b.t",
        f"SELECT sum(n * i) FROM (SELECT i, row_number() OVER (ORDER BY h) AS n FROM {parquet([path])})",
    ]
    wanted = []
    for limit in ("2GiB", "64MiB"):
        connection.execute(f"SET memory_limit = '{limit}'")
        found = [connection.execute(sql).fetchall() for sql in asked]
        wanted = wanted or found
        assert found == wanted, limit


def test_keys_with_nulls(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """GROUP BY and DISTINCT take NULLs for one value, joins by = for none, IS NOT DISTINCT FROM for equal ones."""
    rng = random.Random(7)
    rows = [(rng.choice([None, 1, 2, 3]), rng.choice([None, "", "a", "a "])) for _ in range(3000)]
    columns = {"k": pa.array([k for k, _ in rows], pa.int64()), "t": pa.array([t for _, t in rows], pa.string())}
    table = stored(tmp_path / "keys.parquet", columns, 100)
    counted = Counter(rows)
    found = connection.execute(f"SELECT k, t, count(*) FROM {table} GROUP BY k, t").fetchall()
    assert {(k, t): n for k, t, n in found} == counted
    assert one(connection, f"SELECT count(*) FROM (SELECT DISTINCT k, t FROM {table})") == len(counted)
    pairs = f"(SELECT DISTINCT k, t FROM {table})"
    known = sum(n for key, n in counted.items() if None not in key)
    assert one(connection, f"SELECT count(*) FROM {table} a JOIN {pairs} b ON a.k = b.k AND a.t = b.t") == known
    assert one(connection, f"SELECT count(*) FROM {table} SEMI JOIN {pairs} b USING (k, t)") == known
    same = "a.k IS NOT DISTINCT FROM b.k AND a.t IS NOT DISTINCT FROM b.t"
    assert one(connection, f"SELECT count(*) FROM {table} a JOIN {pairs} b ON {same}") == len(rows)
    anti = f"SELECT count(*) FROM {table} a WHERE NOT EXISTS (SELECT 1 FROM {pairs} b WHERE {same})"
    assert one(connection, anti) == 0
    assert one(connection, f"SELECT count(*) FROM {table} WHERE k NOT IN (SELECT k FROM {table})") == 0
    best = connection.execute(f"SELECT k, max_by(t, (t IS NOT NULL, t)) FROM {table} GROUP BY k").fetchall()
    assert {k: t for k, t in best} == dict.fromkeys([None, 1, 2, 3], "a ")


def test_hashes_cut_rows_into_parts(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """Every row in one part, equal keys in the same, also where a key is NULL; `SHA-256` is everybody's."""
    columns = {
        "k": pa.array([n % 500 or None for n in range(4000)]),
        "t": pa.array([f"{n % 500}" for n in range(4000)]),
    }
    table = stored(tmp_path / "hashed.parquet", columns, 700)
    parts = [connection.execute(f"SELECT k, t FROM {table} WHERE hash(k, t) % 4 = {n}").fetchall() for n in range(4)]
    assert Counter(row for part in parts for row in part) == Counter(connection.execute(f"FROM {table}").fetchall())
    assert sum(len(set(part)) for part in parts) == 500
    assert one(connection, "SELECT sha256('é')") == "4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c"


def test_parquet_gives_back_what_was_copied(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """Written by DuckDB, read by DuckDB and by Arrow; written by Arrow, read by DuckDB."""
    columns = {name: held(*column, 3000, [0, 17, 2999], constant=False) for name, column in COLUMNS.items()}
    table, copy = stored(tmp_path / "arrow.parquet", columns, 1000), tmp_path / "duckdb.parquet"
    connection.execute(f"COPY (SELECT * FROM {table}) TO '{copy}' (FORMAT parquet, ROW_GROUP_SIZE 2048)")
    for difference in (f"{table} EXCEPT ALL FROM {parquet([copy])}", f"{parquet([copy])} EXCEPT ALL FROM {table}"):
        assert connection.execute(f"FROM {difference}").fetchall() == []
    assert pq.read_table(copy).sort_by("number").to_pylist() == pa.table(columns).sort_by("number").to_pylist()
    reader = connection.sql(f"SELECT * FROM {table} ORDER BY number").to_arrow_reader(1000)
    rows = [row for batch in reader for row in batch.to_pylist()]
    assert rows == pa.table(columns).sort_by("number").to_pylist()


def test_files_of_different_columns_are_read_by_name(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """A column that a file lacks is NULL there; a wider type takes the narrower one's values as they are."""
    pq.write_table(pa.table({"a": pa.array([1, None], pa.int32()), "b": ["x", "y"]}), tmp_path / "1.parquet")
    wider = {"c": pa.array([Decimal("1.5")], pa.decimal128(5, 1)), "a": pa.array([2**40])}
    pq.write_table(pa.table(wider), tmp_path / "2.parquet")
    both = parquet([tmp_path / "1.parquet", tmp_path / "2.parquet"])
    found = connection.execute(f"SELECT a, b, c FROM {both} ORDER BY a NULLS FIRST").fetchall()
    assert found == [(None, "y", None), (1, "x", None), (2**40, None, Decimal("1.5"))]
    assert one(connection, f"SELECT count(*) FROM {both} WHERE b IS NULL") == 1
    assert one(connection, f"SELECT count(*) FROM {both} WHERE c IS NULL") == 2
    assert one(connection, f"SELECT count(*) FROM {both} WHERE a > 2000000000") == 1


def test_a_folder_of_partitions_is_read_as_a_reader_does(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    for day, rows in (("2024-03-01", 3), ("2024-03-02", 2), ("__HIVE_DEFAULT_PARTITION__", 1)):
        folder = tmp_path / f"day={day}"
        folder.mkdir()
        pq.write_table(pa.table({"n": list(range(rows))}), folder / "part.parquet")
    files = f"read_parquet('{tmp_path}/*/*.parquet', hive_partitioning = true, hive_types = {{'day': DATE}})"
    assert connection.execute(f"SELECT day, count(*) FROM {files} GROUP BY day ORDER BY day NULLS LAST").fetchall() == [
        (date(2024, 3, 1), 3),
        (date(2024, 3, 2), 2),
        (None, 1),
    ]
    assert one(connection, f"SELECT count(*) FROM {files} WHERE day = DATE '2024-03-02'") == 2
    assert one(connection, f"SELECT count(*) FROM {files} WHERE day IS NULL") == 1


def test_patterns_are_looked_for_anywhere(connection: duckdb.DuckDBPyConnection) -> None:
    """Great Expectations asks by `~`, quarantine by regexp_matches: 2.0 has made them agree."""
    for text, pattern, wanted in [
        ("abc", "b", True),
        ("abc", "^b", False),
        ("abc", "^abc$", True),
        ("a\nb", "^b", False),
    ]:
        found = connection.execute("SELECT ? ~ ?, regexp_matches(?, ?)", [text, pattern] * 2).fetchone()
        assert found == (wanted, wanted)
    assert connection.execute("SELECT NULL ~ 'a', regexp_matches(NULL, 'a')").fetchone() == (None, None)


def test_a_statement_is_done_when_execute_returns(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """Results of SELECT are read as they come since 2.0; what writes must not wait for a reader."""
    connection.execute("CREATE TEMP TABLE rows AS SELECT i FROM range(300000) r(i)")
    connection.execute("INSERT INTO rows SELECT i FROM rows WHERE i < 10")
    connection.execute(f"COPY rows TO '{tmp_path / 'rows.parquet'}' (FORMAT parquet)")
    assert pq.read_metadata(tmp_path / "rows.parquet").num_rows == 300_010
