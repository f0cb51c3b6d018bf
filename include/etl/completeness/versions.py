"""The versions of a window's rows that the source has now, looked up in all that is published."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

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

SEEN = "versions.parquet"


def can_tell(source: Source) -> bool:
    """Whether key and cursor tell a row's version, in the source and published: own steps may change them."""
    return bool(source.primary_key and source.cursor and not source.transform.steps)


def read(source: Source, engine: Engine, session: Session, query: Query, folder: Path) -> None:
    """Write keys and cursor values of the query's rows below the folder."""
    expressions = [quoted(name, engine.dialect) for name in _columns(source)]
    schema, batches = session.stream(selecting(query, engine.dialect, expressions))
    with pq.ParquetWriter(folder / SEEN, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def not_published(run: Run, window: Window, folder: Path, keys: Mapping[str, KeyEquality]) -> int:
    """How many of the versions below the folder stand in no publication; with `load: merge` a newer one counts too."""
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
        now = f"seen.{quote(str(cursor))}"
        version = f"{now} IS NOT DISTINCT FROM known.{CURSOR}"
        if source.load == "merge":
            version = f"({version} OR coalesce(known.{CURSOR} > {now}, {now} IS NULL))"
        there = f"{new.same(key, 'seen', 'known')} AND {version} AND {GONE} IS NULL"
        there = f"SELECT 1 FROM {published} AS known WHERE {there}"
        return duck.count(connection, f"{parquet([seen])} AS seen WHERE NOT EXISTS ({there})")


def _columns(source: Source) -> list[str]:
    return list(dict.fromkeys([*source.primary_key, *([source.cursor.column] if source.cursor else [])]))
