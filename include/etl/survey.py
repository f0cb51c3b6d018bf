"""Asks the database's catalogue how the rows of a window are best cut into slices; reads no rows to do so."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime

import pyarrow as pa

from include.etl import cursor, slices
from include.etl.config import Source
from include.etl.engines import open_source
from include.etl.engines.base import Session, Statistics, Value
from include.etl.errors import ConfigurationError
from include.etl.handover import Bounds, Window
from include.etl.query import build, tables

log = logging.getLogger("etl.plan")


def survey(source: Source, window: Window) -> list[Bounds]:
    """The window's slices, from the catalogue of the database; warns of a query that no index can serve.

    A read of everything is cut by `split.column`; a later window by the cursor, whose index already serves it.
    """
    columns = list(dict.fromkeys(found.column for found in (source.split, source.cursor) if found))
    if not columns:
        return [Bounds()]
    engine = open_source(source, f"moh-etl {source.source} plan")
    table = table_of(source, window, engine.dialect)
    if not table:
        return [Bounds()]
    column = columns[0] if window.read_from is None else columns[-1]
    with engine.session() as session:
        found = statistics_of(source, session, table, column)
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


def table_of(source: Source, window: Window, dialect: str) -> str | None:
    """The table to ask about: of a query the one that `split` names, or the only one that it reads."""
    named = source.table or (source.split.table if source.split else None)
    if named:
        return named
    found = tables(build(source, dialect, window), dialect)
    return ".".join(found[0]) if len(found) == 1 else None


def statistics_of(source: Source, session: Session, table: str, column: str) -> Statistics:
    """Nothing where the catalogue cannot be asked: only slices and a warning rest on it."""
    try:
        return session.statistics(table, column)
    except ConfigurationError as error:
        log.warning("%s: the catalogue cannot be asked about %s: %s", source.source, table, error)
        return Statistics()


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
