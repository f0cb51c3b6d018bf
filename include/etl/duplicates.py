"""Rows that share a key: what the source held of one at the same moment tells versions from a key that is not unique.

A slice is read in one snapshot, in which a table has one row per key, or a history several that differ in the cursor.
Two rows of a key with the same cursor value, or without one, are no versions: to publish one of them is to lose the
other. Only between the snapshots of two slices may a row have changed, and so have been read twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow.parquet as pq

from include.etl.config import Source
from include.etl.duck import collect_repeated, count, key_passes, parquet, quote
from include.etl.errors import DataError

REPEATED = "_repeated"
NUMBER = "((file_index::BIGINT << 40) + file_row_number)"
"""A row's place in the parts, in the order in which they are given."""


class Judged(NamedTuple):
    """What was found of keys that come more than once."""

    copies: int = 0
    """Rows that are left out because another one, of the same snapshot, is equal in every column."""
    caveats: Sequence[str] = ()
    """What a person is to know of these rows."""
    degraded: Sequence[str] = ()
    """Those of the caveats that operators are told of: the key is not unique, or may not be."""
    unverified: Sequence[str] = ()
    """Those with which it is not proven that no row is lost."""


class _Found(NamedTuple):
    """Of the keys that come more than once: those whose rows are no versions, with their rows, and so on."""

    differing: int = 0
    rows: int = 0
    copied: int = 0
    copies: int = 0
    moved: int = 0
    versions: int = 0

    def plus(self, other: _Found) -> _Found:
        return _Found(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def collect(connection: duckdb.DuckDBPyConnection, keys: Sequence[str], parts: Sequence[Path]) -> bool:
    """Fill the table `_repeated` with the keys that come more than once; whether there are any.

    `keys` are expressions of DuckDB over the parts as the table `rows`.
    """
    collect_repeated(connection, f"(SELECT {named(keys)} FROM {parquet(parts)} AS rows)", names(keys))
    return count(connection, REPEATED) > 0


def names(keys: Sequence[str]) -> list[str]:
    """What the keys are called in tables of keys."""
    return [f"_key{number}" for number in range(len(keys))]


def named(keys: Sequence[str]) -> str:
    """The keys under these names, as what is selected."""
    return ", ".join(f"{key} AS {name}" for key, name in zip(keys, names(keys), strict=True))


def repeated_only(keys: Sequence[str]) -> str:
    """What joins the table `rows` to `_repeated`, so that only rows of such keys are left."""
    same = " AND ".join(f"{key} = {REPEATED}.{name}" for key, name in zip(keys, names(keys), strict=True))
    return f"SEMI JOIN {REPEATED} ON {same}"


def judge(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    keys: Sequence[str],
    slices: Sequence[Sequence[Path]],
    *,
    snapshots: bool = True,
) -> Judged:
    """Compare the rows of each key that `collect` has found, in little memory; a key with a NULL in it is none.

    `slices` are the parts, by the snapshot that they were read in, where the database gave `snapshots`.

    Raises:
        DataError: rows that one snapshot held of a key differ, and not in the cursor.
    """
    parts = [part for slice_ in slices for part in slice_]
    if not keys or not count(connection, REPEATED):
        return Judged()
    numbers = ", ".join(str(number) for number, slice_ in enumerate(slices) for _ in slice_)
    columns = ", ".join(quote(name) for name in pq.read_schema(parts[0]).names)
    at = f"rows.{quote(source.cursor.column)}" if source.cursor else "NULL"
    read = f"{named(keys)}, {at} AS _at, ([{numbers}])[file_index::BIGINT + 1] AS _slice"
    source_rows = f"{parquet(parts, numbered=True)} AS rows"
    hashed = f"(SELECT {read}, hash({columns}) AS _same FROM {source_rows} {repeated_only(keys)})"
    alike = " AND ".join(f"{key} = _alike.{name}" for key, name in zip(keys, names(keys), strict=True))
    compared = (
        f"(SELECT {read}, min({NUMBER}) OVER (PARTITION BY {columns}) AS _same FROM {source_rows} "
        f"SEMI JOIN _alike ON {alike} AND {at} IS NOT DISTINCT FROM _alike._at)"
    )
    found, key = _Found(), ", ".join(names(keys))
    for part in key_passes(names(keys), _rows(connection)):
        connection.execute(f"CREATE OR REPLACE TEMP TABLE _snapshots AS {_grouped(key, f'{hashed} WHERE {part}')}")
        _compare_alike(connection, key, compared)
        found = found.plus(_of_pass(connection, key))
    if found.differing:
        raise _not_unique(source, found, snapshots)
    return _told(source, found)


def _grouped(key: str, rows: str) -> str:
    """The rows of a key at a moment, by snapshot; equal rows have the same number in `_same`."""
    return (
        f"SELECT {key}, _at, _slice, count(*) AS _rows, min(_same) AS _low, max(_same) AS _high "
        f"FROM {rows} GROUP BY {key}, _at, _slice"
    )


def _compare_alike(connection: duckdb.DuckDBPyConnection, key: str, compared: str) -> None:
    """Where a hash takes rows for equal, compare all their columns instead.

    DuckDB gives 0 and -1 in more than 18 digits, and others of such numbers, the same hash.
    """
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE _alike AS SELECT {key}, _at FROM _snapshots GROUP BY {key}, _at "
        "HAVING sum(_rows) > 1 AND bool_and(_low = _high) AND (max(_rows) > 1 OR min(_low) = max(_high))"
    )
    if not count(connection, "_alike"):
        return
    same = " AND ".join(f"_snapshots.{name} = _alike.{name}" for name in key.split(", "))
    connection.execute(
        f"DELETE FROM _snapshots USING _alike WHERE {same} AND _snapshots._at IS NOT DISTINCT FROM _alike._at"
    )
    connection.execute(f"INSERT INTO _snapshots {_grouped(key, compared)}")


def _rows(connection: duckdb.DuckDBPyConnection) -> int:
    (found,) = connection.sql(f"SELECT coalesce(sum(_copies), 0) FROM {REPEATED}").fetchall()
    return int(found[0])


def _of_pass(connection: duckdb.DuckDBPyConnection, key: str) -> _Found:
    """What the table `_snapshots` has, which holds a part of the keys."""
    groups = (
        f"(SELECT {key}, sum(_rows) AS _all, count(*) AS _slices, bool_or(_low <> _high) AS _differ, "
        f"min(_low) <> max(_high) AS _moved FROM _snapshots GROUP BY {key}, _at HAVING _all > 1)"
    )
    of_keys = (
        f"(SELECT bool_or(_differ) AS _differ, bool_or(_moved) AS _moved, sum(_all) FILTER (_differ) AS _rows, "
        f"sum(_all - _slices) FILTER (NOT _differ) AS _copies FROM {groups} GROUP BY {key})"
    )
    several = f"(SELECT DISTINCT {key} FROM _snapshots GROUP BY {key}, _slice HAVING count(*) > 1)"
    (one,) = connection.sql(
        "SELECT count(*) FILTER (_differ), coalesce(sum(_rows), 0), count(*) FILTER (_copies > 0), "
        "coalesce(sum(_copies), 0), count(*) FILTER (_moved AND NOT _differ), "
        f"(SELECT count(*) FROM {several}) FROM {of_keys}"
    ).fetchall()
    return _Found(*map(int, one))


def _key(source: Source) -> str:
    return f"primary_key ({', '.join(source.primary_key)})"


def _not_unique(source: Source, found: _Found, snapshots: bool) -> DataError:
    cursor = "the same value in the cursor column, or none" if source.cursor else "no cursor that tells versions apart"
    moment = (
        "in one snapshot"
        if snapshots
        else ("in one read (the database gives no snapshot, so rows that changed meanwhile may come twice)")
    )
    return DataError(
        f"source {source.source!r}: {_key(source)} is not unique in the source: {found.differing} keys have "
        f"{found.rows} rows that differ, with {cursor}, {moment}; nothing was published. Add columns to primary_key "
        "that tell the rows apart, or make the query return one row per key"
    )


def _told(source: Source, found: _Found) -> Judged:
    degraded, unverified = [], []
    if found.copies:
        degraded.append(
            f"{_key(source)} is not unique in the source: {found.copies} rows of {found.copied} keys are copies of "
            "another row in every column; one of each is published"
        )
    if found.moved:
        unverified.append(
            f"{found.moved} keys were read by several slices, with different columns and no cursor value that tells "
            f"which is newer: the rows changed while the source was read, or {_key(source)} is not unique; of each "
            "the row that was read last is published. Read without split to be sure"
        )
    published = "each is published" if source.load == "append" else "of each key the latest is published"
    versions = [
        f"the source held several rows of {found.versions} keys at the same moment, which differ in the cursor: "
        f"{published}. If that is no history, add columns to {_key(source)}"
    ]
    degraded += unverified
    return Judged(found.copies, [*degraded, *(versions if found.versions else [])], degraded, unverified)
