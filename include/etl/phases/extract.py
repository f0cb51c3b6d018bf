"""Streams one slice of the window out of the database into raw Parquet parts."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from include.etl import cursor, key_equality, slices, unreadable
from include.etl.completeness import extraction as completeness
from include.etl.completeness.checksums import check_columns
from include.etl.config import Source
from include.etl.engines import open_source
from include.etl.engines.base import Engine, Origins, Query, Session, Stream
from include.etl.errors import ConfigurationError, DataError, StorageError
from include.etl.handover import Bounds, Extracted, Plan, Slice, Window
from include.etl.horizon import degraded_by
from include.etl.names import published_names
from include.etl.outputs.parquet import open_writer
from include.etl.publication import schema, standing
from include.etl.publication.files import check_partition
from include.etl.query import build
from include.etl.records.manifest import Manifest
from include.etl.records.run import Counter, Run, measured
from include.etl.records.set_aside import REASONS, ROW
from include.etl.storage import publish, seal

log = logging.getLogger("etl.extract")

ROW_GROUP_ROWS, ROW_GROUP_BYTES = 131_072, 16 << 20
PART_ROWS, PART_BYTES = 2_000_000, 1 << 30
RESERVED = {"file_index", "file_row_number", "filename", ROW, REASONS}
"""Columns that DuckDB adds to those of a Parquet file, by which transform tells rows apart."""


def extract(run: Run, plan: Plan, part: Slice, progress: Callable[[int], None] | None = None) -> Extracted:
    """Read a slice; its parts appear one by one and are complete when this returns. A retry starts the slice anew.

    `progress` is told the number of rows of each row group as it is written.
    """
    with measured(run, "extract", f"-{part.index:04d}") as counter:
        folder = run.storage.fresh_folder("raw", run.source.source, run.key, f"slice-{part.index:04d}")
        started = datetime.now(UTC)
        with standing.held(run.storage, run.source.source, f"extract of run {run.run_id} of {run.dag_id}") as found:
            published = found.manifests
        engine = open_source(run.source, f"moh-etl {run.source.source} slice {part.index} {plan.run_id}")
        with engine.session() as session:
            query = windowed(run.source, engine, session, plan.window, slices.kept(run, part.index))
            origins = _origins(run.source, plan, engine, session)
            keys = key_equality.of_source(run.source, session, query)
            stream = session.stream(query)
            _check_changes(run, plan, stream.schema, published, counter)
            paths = [_count(path, counter) for path in _write_parts(folder, stream, progress or _ignore)]
            completeness.prove(run.source, plan.window, engine, session, query, stream.schema, paths)
        told = [*session.unpinned, *origins.unchecked, *key_equality.untold(run.source, keys)]
        counter.facts["conditions"] = degraded_by(told)
        counter.facts["without_cursor"] = _without_cursor(run.source, plan.window, paths)
        return Extracted(
            slice=part,
            parts=[run.storage.relative(path) for path in paths],
            rows=counter.rows,
            bytes=counter.bytes,
            extracted_at=started,
            plan_id=plan.id,
            query_hash=hashlib.sha256(query.sql.encode()).hexdigest(),
            # All rows come by one query, so it need not be the session that sees one state.
            consistency="none" if session.consistency == "none" else "snapshot",
            relations=list(origins.relations),
            caveats=[*told, *origins.hidden],
            keys=keys,
        )


def _origins(source: Source, plan: Plan, engine: Engine, session: Session) -> Origins:
    """Where the rows come from, as the session sees it that reads them.

    Raises:
        ConfigurationError: the source's names stand for other relations than they did in plan.
    """
    origins = session.origins(build(source, engine.dialect, Window(mode="full", end=plan.window.end)))
    if plan.relations and origins.relations and set(plan.relations) != set(origins.relations):
        raise ConfigurationError(
            f"source {source.source!r}: {source.query or source.table} reads {', '.join(origins.relations)}, and when "
            f"this run was planned it read {', '.join(plan.relations)}; nothing was read. Clear the run from its plan "
            "on if a view was replaced; if a pooler or another search_path is behind it, write the schema before the "
            "table's name"
        )
    return origins


def windowed(source: Source, engine: Engine, session: Session, window: Window, part: Bounds | None = None) -> Query:
    """The slice's query with the window's bounds in the cursor column's own type.

    Raises:
        ConfigurationError: a declared key or cursor column is not in the result.
    """
    unbound = build(source, engine.dialect, window)
    columns = session.schema(unbound)
    folded = [name.lower() for name in columns.names]
    for name in columns.names:
        if folded.count(name.lower()) > 1:
            raise ConfigurationError(
                f"source {source.source!r}: column {name!r} comes twice, but for capital letters, in the result of "
                f"{source.query or source.table}; give one another name (AS) in a query"
            )
    for name in RESERVED & set(folded):
        raise ConfigurationError(
            f"source {source.source!r}: column {name!r} has a name that is kept for DuckDB or the rows set aside; "
            "give it another one (AS) in a query"
        )
    declared = [*source.primary_key, *(found.column for found in (source.cursor, source.split) if found)]
    for column in declared:
        if column not in columns.names:
            raise ConfigurationError(
                f"source {source.source!r}: column {column!r} (primary_key, cursor or split) is not in the result of "
                f"{source.query or source.table}; allowed: {', '.join(columns.names)}"
            )
    check_columns(source, columns, engine.dialect)
    _check_published(source, columns)
    if not source.cursor:
        return build(source, engine.dialect, window, part=part)
    column_type = columns.field(source.cursor.column).type
    if window.mode == "full":
        query = build(source, engine.dialect, window, part=part)
    else:
        start, end = (cursor.bound(place, column_type, source) for place in (window.read_from, window.end))
        query = build(source, engine.dialect, window, start, end, part)
    return unreadable.left_out(query, engine.dialect, column_type, source)


def _check_published(source: Source, columns: pa.Schema) -> None:
    """Find out before reading whether names and partition column will do; own steps may still change the columns."""
    if source.transform.steps:
        return
    names, declared = published_names(source, columns.names), source.transform.types
    types = {
        column: pa.date32() if kind.strip().upper() == "DATE" else pa.string() for column, kind in declared.items()
    }
    check_partition(source, pa.schema([(names[field.name], types.get(field.name, field.type)) for field in columns]))


def _check_changes(run: Run, plan: Plan, columns: pa.Schema, published: Sequence[Manifest], counter: Counter) -> None:
    """Compare the columns with those extracted last, before the first row is read."""
    changes = schema.extracted_changes(run.source, columns, published)
    if changes:
        counter.facts["schema_changes"] = [str(change) for change in changes]
    schema.judge(run.source, changes, replaces=plan.window.mode == "full")


def _write_parts(folder: Path, stream: Stream, progress: Callable[[int], None]) -> Iterator[Path]:
    """Parquet parts of about PART_ROWS rows or PART_BYTES; an empty result is one part that holds the columns."""
    tables, number = _row_groups(stream.schema, stream.batches), 0
    table = next(tables, stream.schema.empty_table())
    while table is not None:
        final = folder / f"part-{number:05d}.parquet"
        staged = folder / f".{final.name}.tmp"
        table = _write_part(staged, table, tables, progress)
        seal(staged)
        publish(staged, final)
        yield final
        number += 1


def _write_part(
    path: Path, table: pa.Table, rest: Iterator[pa.Table], progress: Callable[[int], None]
) -> pa.Table | None:
    """Write row groups into one file until it is large enough; returns the first row group of the next part.

    One is written while the next is read, since the database sends as fast as it is read.
    """
    rows, size, following = 0, 0, table
    with _disk_errors(path), open_writer(path, table) as writer, ThreadPoolExecutor(1) as thread:
        while following is not None and rows < PART_ROWS and size < PART_BYTES:
            group = following
            written = thread.submit(writer.write_table, group, row_group_size=max(group.num_rows, 1))
            rows, size = rows + group.num_rows, size + group.nbytes
            following = next(rest, None)
            written.result()
            progress(group.num_rows)
    return following


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror or error}") from error


def _row_groups(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches gathered into row groups that are bounded in rows and in bytes."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows == 0:
            continue
        held.append(batch)
        if sum(b.num_rows for b in held) >= ROW_GROUP_ROWS or sum(b.nbytes for b in held) >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(held, schema)
            held = []
    if held:
        yield pa.Table.from_batches(held, schema)


def _count(path: Path, counter: Counter) -> Path:
    counter.rows += pq.ParquetFile(path).metadata.num_rows
    counter.bytes += path.stat().st_size
    return path


def _without_cursor(source: Source, window: Window, paths: Sequence[Path]) -> int:
    """How many rows have no cursor value, by the files' statistics; the policy may be to refuse them."""
    if source.cursor is None:
        return 0
    found = 0
    for path in paths:
        groups = pq.read_metadata(path)
        position = groups.schema.names.index(source.cursor.column)
        columns = (groups.row_group(number).column(position) for number in range(groups.num_row_groups))
        found += sum(column.statistics.null_count or 0 for column in columns if column.statistics)
    if found and source.cursor.nulls == "refuse":
        raise DataError(
            f"source {source.source!r}: {found} rows have no value in the cursor column {source.cursor.column!r}; give "
            "them one in a query (coalesce with the time of their creation), or set cursor.nulls to every_run or "
            "first_run"
        )
    if found and source.cursor.nulls == "every_run" and window.start is not None:
        log.warning(
            "%s: %d rows without a value in cursor column %s were read again, as every run has to; give them one in a "
            "query (coalesce with the time of their creation)",
            source.source,
            found,
            source.cursor.column,
        )
    return found


def _ignore(rows: int) -> None:
    """Progress that nobody watches."""
