"""The first link: what the source counts of a slice is what its raw parts hold, read back from the disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from include.etl import duck
from include.etl.completeness.totals import Fields, Totals, added, differences, of_parquet, of_source
from include.etl.config import Source
from include.etl.engines.base import Engine, Query, Session
from include.etl.errors import DataError, StorageError
from include.etl.handover import Extracted, Handover, Window
from include.etl.records.run import Run
from include.etl.storage import read_json, write_json

log = logging.getLogger("etl.extract")
FILE = "totals.json"
NOT_COUNTED = "verify.count is false: the source was not asked"


class SliceTotals(Handover):
    """What extract leaves beside a slice's parts; sums are data, and so lie with the data."""

    source: Totals | None
    raw: Totals
    reason: str = ""
    """Why the two prove nothing, if they do not."""


def fields_of(source: Source, schema: pa.Schema) -> Fields:
    """The columns to sum up, with their types in the result."""
    return {column: schema.field(column).type for column in source.verify.columns}


def prove(
    source: Source,
    window: Window,
    engine: Engine,
    session: Session,
    query: Query,
    schema: pa.Schema,
    parts: Sequence[Path],
) -> None:
    """Compare the slice's parts with the source, in the session that has read them, and record both.

    Raises:
        DataError: they differ, and it is not because rows have changed meanwhile.
    """
    fields, folder, counted, reason = fields_of(source, schema), parts[0].parent, None, NOT_COUNTED
    with duck.session(source.memory_limit_mb, folder / ".scratch") as connection:
        raw = of_parquet(connection, parts, fields)
    if source.verify.count:
        counted, reason = of_source(engine, session, query, fields), ""
        if counted != raw:
            reason = _explained(source, window, engine, session, query, fields, counted, raw)
    write_json(folder / FILE, SliceTotals(source=counted, raw=raw, reason=reason).model_dump())


def _explained(
    source: Source,
    window: Window,
    engine: Engine,
    session: Session,
    query: Query,
    fields: Fields,
    counted: Totals,
    raw: Totals,
) -> str:
    """Why a difference may be nobody's fault: another look at the source, where it shows no single state.

    Raises:
        DataError: nothing excuses it.
    """
    if session.consistency != "session":
        again = of_source(engine, session, query, fields)
        if again == raw:
            return ""
        if again != counted or window.mode == "full":
            log.warning("%s: rows have changed while they were read; what was read cannot be verified", source.source)
            return f"the source shows no single state to a session ({session.consistency}), and rows were changing"
    found = "; ".join(differences(counted.shown(), raw.shown()))
    raise DataError(
        f"source {source.source!r}: what was read is not what the source holds (source and raw parts): {found}; "
        "nothing was published. Clear the extract task to read again; if it stays, compare with the database"
    )


def _schema(part: Path) -> pa.Schema:
    try:
        return pq.read_schema(part)
    except (OSError, pa.ArrowException):
        raise StorageError(
            f"file {part} is gone or damaged; nothing was published. Clear the run to read again"
        ) from None


def recorded(run: Run, extracted: Sequence[Extracted]) -> list[SliceTotals]:
    """What was recorded of the slices when they were read."""
    folders = [run.storage.absolute(slice_.parts[0]).parent for slice_ in extracted]
    return [SliceTotals.model_validate(read_json(folder / FILE)) for folder in folders]


def check_unchanged(run: Run, connection: duckdb.DuckDBPyConnection, extracted: Sequence[Extracted]) -> None:
    """Refuse raw parts that do not hold any more what they held when they were written.

    Raises:
        StorageError: rows or values differ, or a part is gone.
    """
    parts = [run.storage.absolute(part) for slice_ in extracted for part in slice_.parts]
    then = added(slice_.raw for slice_ in recorded(run, extracted))
    schemas = [_schema(part) for part in parts]
    now = of_parquet(connection, parts, fields_of(run.source, schemas[0]))
    if lines := differences(then.shown(), now.shown()):
        raise StorageError(
            f"source {run.source.source!r}: the raw parts of run {run.run_id} have changed since they were written: "
            f"{'; '.join(lines)}; nothing was published. Clear the run to read again"
        )
