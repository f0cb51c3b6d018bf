"""Asks the database's catalogue how the rows of a window are best cut into slices; reads no rows to do so."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime

import pyarrow as pa

from include.etl import cursor, slices
from include.etl.config import Source
from include.etl.engines import open_source
from include.etl.engines.base import Statistics, Value
from include.etl.handover import Bounds, Window
from include.etl.query import build

log = logging.getLogger("etl.plan")


def survey(source: Source, window: Window) -> list[Bounds]:
    """The window's slices, from the catalogue of the database; warns of a query that no index can serve.

    A read of everything is cut by `split.column`; a later window by the cursor, whose index already serves it.
    """
    table = source.table or (source.split and source.split.table)
    columns = list(dict.fromkeys(found.column for found in (source.split, source.cursor) if found))
    if not table or not columns:
        return [Bounds()]
    column = columns[0] if window.read_from is None else columns[-1]
    engine = open_source(source, f"moh-etl {source.source} plan")
    with engine.session() as session:
        found = session.statistics(table, column)
        _warn_of_scans(source, table, columns, found.leading)
        times = bool(found.steps) and isinstance(found.steps[0].value, date)
        if not source.split or (window.read_from is not None and not times):
            return [Bounds()]
        if not found.steps:
            log.info("%s: the catalogue tells nothing of %s in %s: read in one piece", source.source, column, table)
        low, high = _ends(source, window, column, found)
        cuts = slices.cut(column, found, source.split.rows, low, high)
        if slices.ascending(session, build(source, engine.dialect, window), cuts, engine.dialect):
            return cuts
    log.warning("%s: the database orders %s otherwise than its statistics; read in one piece", source.source, column)
    return [Bounds()]


def _warn_of_scans(source: Source, table: str, columns: Sequence[str], leading: frozenset[str] | None) -> None:
    for column in columns:
        if leading is not None and column not in leading:
            log.warning(
                "%s: column %s leads no index of %s: the database has to scan the whole table for every run. "
                "Ask its administrator for an index",
                source.source,
                column,
                table,
            )


def _ends(source: Source, window: Window, column: str, found: Statistics) -> tuple[Value, Value]:
    """The window's bounds as values of the column that is cut, where it is the cursor."""
    first = found.steps[0].value if found.steps else None
    if window.mode == "full" or not source.cursor or column != source.cursor.column or not isinstance(first, date):
        return None, None
    kind = pa.timestamp("us", first.tzinfo and "UTC") if isinstance(first, datetime) else pa.date32()
    return cursor.bound(window.read_from, kind, source), cursor.bound(window.end, kind, source)
