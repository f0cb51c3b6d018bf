"""SQL Server's `rowversion` as a cursor: the server itself says up to which of them all changes are decided.

Every change of a row takes the next number of the database's counter. `MIN_ACTIVE_ROWVERSION()` is the smallest that a
transaction in flight has taken; a row below it changes no more without leaving for a larger one.
"""

from __future__ import annotations

from collections.abc import Callable

from include.etl.config import Source
from include.etl.engines import open_source
from include.etl.engines.base import Writers
from include.etl.handover import Bound, Window
from include.etl.horizon import began
from include.etl.query import build


def settle(source: Source, look: Callable[[], Writers]) -> Bound:
    """The end of what is decided, and who holds it back. What is found needs no grant; a name for the writer does.

    Raises:
        ConfigurationError: the column is no row version, or the database cannot tell what is decided.
    """
    assert source.cursor is not None
    engine = open_source(source, f"moh-etl {source.source} plan")
    with engine.session() as session:
        everything = build(source, engine.dialect, Window(mode="full", end=0))
        versions = session.row_versions(everything, source.cursor.column)
    bound = Bound(grade="writers seen", asked=versions.next, safe=versions.decided)
    return _held(source, bound, look()) if versions.decided < versions.next else bound


def _held(source: Source, bound: Bound, writers: Writers) -> Bound:
    """The same with the oldest transaction in flight, which is most likely the one that holds the end back."""
    assert source.cursor is not None
    cursor = source.cursor
    if writers.unseen:
        return bound.model_copy(update={"writer": f"a transaction that cannot be seen ({writers.unseen})"})
    oldest = min(writers.in_flight, key=lambda writer: began(writer, cursor), default=None)
    if oldest is None:  # it has ended meanwhile
        return bound
    too_old = writers.now - oldest.since > cursor.longest_writer
    named = {"writer": oldest.session, "writer_since": oldest.since, "writer_too_old": too_old}
    return bound.model_copy(update=named)
