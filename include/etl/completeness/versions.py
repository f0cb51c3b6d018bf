"""The versions of a window's rows that the source has now, looked up in what is published and in what is set aside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from include.etl import duck
from include.etl.completeness.checksums import selecting
from include.etl.config import Source
from include.etl.duck import parquet, quote, text
from include.etl.engines.base import Engine, Query, Session
from include.etl.handover import KeyEquality, Window
from include.etl.names import published_name
from include.etl.publication.keys import CURSOR, GONE, Keys
from include.etl.publication.rows import NewRows, PublishedRows, extracted
from include.etl.query import quote as quoted
from include.etl.records import manifest as manifests
from include.etl.records.run import Run
from include.etl.records.set_aside import DECISIONS, ROWS
from include.etl.storage import Storage

SEEN = "versions.parquet"


@dataclass(frozen=True)
class Lookup:
    """Of the rows that the source holds in a window now, by key and cursor value; and of those that are published."""

    rows: int
    missing: int
    """Neither published (with `load: merge`, in this version or a newer one) nor set aside."""
    aside: int
    """Not published, but set aside."""
    gone: int
    """Published with a cursor value in the window, and not in the source any more."""


def read(source: Source, engine: Engine, session: Session, query: Query, folder: Path) -> None:
    """Write keys and cursor values of the query's rows below the folder."""
    expressions = [quoted(name, engine.dialect) for name in _columns(source)]
    schema, batches = session.stream(selecting(query, engine.dialect, expressions))
    with pq.ParquetWriter(folder / SEEN, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def look_up(run: Run, window: Window, folder: Path, keys: Mapping[str, KeyEquality]) -> Lookup:
    """Look up the versions below the folder; `keys` says how the source compares them.

    Raises:
        ConfigurationError: key or cursor are published in another form, so that they cannot be compared.
    """
    source, seen = run.source, folder / f"published-{SEEN}"
    cursor = published_name(source, source.cursor.column) if source.cursor else None
    key = [published_name(source, column) for column in source.primary_key]
    equal = {published_name(source, column): equality for column, equality in keys.items()}
    new = NewRows(source, window, datetime.now(UTC), seen, key, cursor, [folder / SEEN], equal)
    with (
        run.storage.lock(source.source, f"verify of {source.source}", shared=True),
        duck.session(source.memory_limit_mb, folder / ".scratch") as connection,
    ):
        connection.execute(
            f"COPY ({extracted(connection, new, _columns(source))}) TO {text(str(seen))} (FORMAT parquet)"
        )
        rows = PublishedRows(connection, source, manifests.published_folder(run.storage, source.source))
        standing = manifests.current(run.storage, source.source)
        for manifest in standing:
            rows.check(manifest, new)
        published = Keys(rows, new, folder / "keys").of(standing)
        assert published  # a publication's window is being verified
        within = f"{parquet([seen])} AS seen WHERE {_inside(new, quote(cursor) if cursor else '')}"
        connection.execute(
            f"CREATE TEMP TABLE missing AS SELECT * FROM {within} AND NOT EXISTS "
            f"(SELECT 1 FROM {published} AS known WHERE {_stands_for(new)} AND {GONE} IS NULL)"
        )
        missing, aside = duck.count(connection, "missing"), _set_aside(run.storage, connection, new)
        now = new.same(key, "seen", "known")
        now += f" AND seen.{quote(cursor)} IS NOT DISTINCT FROM {CURSOR}" if cursor else ""
        gone = duck.count(
            connection,
            f"{published} AS known WHERE {GONE} IS NULL AND {_inside(new, CURSOR)} AND NOT EXISTS "
            f"(SELECT 1 FROM {parquet([seen])} AS seen WHERE {now})",
        )
        return Lookup(duck.count(connection, within), missing - aside, aside, gone)


def dropped(storage: Storage, source: str) -> int:
    """How many rows that were set aside somebody has deleted for good; which ones is known no more."""
    path = storage.root / "quarantine" / source / DECISIONS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return sum(line["rows"] for line in map(json.loads, lines) if line["decision"] == "drop")


def _stands_for(new: NewRows) -> str:
    """Whether a row of `known` stands for one of `seen`."""
    if new.cursor is None:
        return new.same(new.key, "seen", "known")
    now = f"seen.{quote(new.cursor)}"
    version = f"{now} IS NOT DISTINCT FROM known.{CURSOR}"
    if new.source.load == "merge":
        version = f"({version} OR coalesce(known.{CURSOR} > {now}, {now} IS NULL))"
    return f"{new.same(new.key, 'seen', 'known')} AND {version}"


def _inside(new: NewRows, cursor: str) -> str:
    """Whether a row has a cursor value in the window: where everything was read, some have come since."""
    if new.cursor is None:
        return "true"
    before = f"{cursor} < {new.bound(new.window.end)}"
    if new.window.read_from is None:
        return f"({before} OR {cursor} IS NULL)"
    return f"{before} AND {cursor} >= {new.bound(new.window.read_from)}"


def _set_aside(storage: Storage, connection: duckdb.DuckDBPyConnection, new: NewRows) -> int:
    """How many of the missing rows are among those that are set aside."""
    found = 0
    for path in sorted((storage.root / "quarantine" / new.source.source).glob(f"*/{ROWS}")):
        copies = NewRows(new.source, new.window, new.read_at, new.interim, new.key, new.cursor, [path], new.keys)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE aside AS {extracted(connection, copies, _columns(new.source))}"
        )
        kinds = [connection.execute(f"DESCRIBE {table}").fetchall() for table in ("aside", "missing")]
        if kinds[0] == kinds[1]:
            there = new.same(new.version, "missing", "aside")
            gone = f"DELETE FROM missing WHERE EXISTS (SELECT 1 FROM aside WHERE {there})"
            found += int((connection.execute(gone).fetchone() or (0,))[0])
    return found


def _columns(source: Source) -> list[str]:
    return list(dict.fromkeys([*source.primary_key, *([source.cursor.column] if source.cursor else [])]))
