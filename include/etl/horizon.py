"""How far a window may reach: up to what nothing will be committed before any more.

A transaction stamps a row, and commits it later. Whoever reads in between does not see the row, and must not take the
time of its stamp for done. So the window ends before the oldest transaction in flight began. One that begins after the
look at them stamps later; one that has committed before it is seen by what reads afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from include.etl.config import Source
from include.etl.config_sections import Cursor
from include.etl.engines.base import Origins, Writer, Writers
from include.etl.errors import WriterTooOld
from include.etl.handover import Bound

log = logging.getLogger("etl.plan")

MARGIN = timedelta(seconds=2)
"""A server lists a transaction a little after it took its time, and some count whole seconds."""


DEGRADED = "degraded guarantee"
"""Name of the condition under which operators learn that something could not be made sure of."""


def horizon(cursor: Cursor, asked: datetime, writers: Writers) -> Bound:
    """The end that is safe where `asked` was to be the end; it is never later than that."""
    skew = cursor.lag or timedelta(0)
    wait = lag(cursor, writers) if writers.unseen else MARGIN + skew
    reach = writers.now - wait
    oldest = min(writers.in_flight, key=lambda writer: began(writer, cursor), default=None)
    held = min(reach, began(oldest, cursor) - MARGIN - skew) if oldest else reach
    too_old = oldest is not None and writers.now - oldest.since > cursor.longest_writer
    named = oldest if held < reach or too_old else None
    return Bound(
        grade=grade(writers),
        asked=asked,
        safe=min(asked, held.replace(microsecond=0)),
        lag_s=wait.total_seconds(),
        unseen=writers.unseen,
        **of_origins(writers.origins),
        degraded=degraded(cursor, writers),
        writer=named.session if named else None,
        writer_since=named.since if named else None,
        writer_too_old=too_old,
    )


def of_origins(origins: Origins) -> dict[str, list[str]]:
    """What a bound records of where the rows come from."""
    return {
        "relations": list(origins.relations),
        "partitions": list(origins.partitions),
        "attached": list(origins.attached),
        "caveats": [*origins.caveats, *origins.cured],
        "cured": list(origins.cured),
    }


def with_cures(source: Source, origins: Origins) -> Origins:
    """Rows that appear long after their stamp are read by who looks back for them, or reads everything now and then."""
    if not (source.schedule.full or (source.cursor and source.cursor.lookback)):
        return origins
    return origins._replace(caveats=(), cured=[*origins.caveats, *origins.cured])


def grade(writers: Writers) -> Literal["writers seen", "lag", "not proven"]:
    """How sure an end is that rests on these writers."""
    if writers.origins.caveats or writers.origins.cured:
        return "not proven"
    return "lag" if writers.unseen else "writers seen"


def lag(cursor: Cursor, writers: Writers) -> timedelta:
    """How old what is read must be in any case. A lag that is meant for clocks must not shorten what is usual."""
    configured = cursor.lag or timedelta(0)
    return max(configured, writers.usual_lag) if writers.unseen else configured


def degraded(cursor: Cursor, writers: Writers) -> bool:
    """Whether the bound is less sure than it could be. Where nothing helps, `cursor.lag` is the source's decision."""
    unseen = bool(writers.unseen) and (writers.curable or cursor.lag is None)
    return unseen or bool(writers.origins.caveats)


def began(writer: Writer, cursor: Cursor) -> datetime:
    """When a transaction began; where nobody knows, it is taken to have been open for as long as is usual at most."""
    return writer.since - cursor.longest_writer if writer.begun_earlier else writer.since


def conditions(source: Source, bound: Bound) -> dict[str, str]:
    """What operators are to learn of, though the run goes on."""
    found: dict[str, str] = {}
    if bound.degraded:
        found |= degraded_by([*_unseen(bound), *(one for one in bound.caveats if one not in bound.cured)])
    if bound.writer_too_old and source.cursor:
        found["long-running writer"] = (
            f"{bound.writer} has been in a transaction since {bound.writer_since}, longer than cursor.longest_writer "
            f"= {source.cursor.longest_writer}; what is newer than that is not read before it ends"
        )
    for condition, causes in found.items():
        for cause in causes.splitlines():
            log.warning("%s: %s: %s", source.source, condition, cause)
    return found


def degraded_by(causes: Sequence[str]) -> dict[str, str]:
    """What a phase could not make sure of, as its record keeps it: a line for each cause."""
    return {DEGRADED: "\n".join(causes)} if causes else {}


def _unseen(bound: Bound) -> list[str]:
    if not bound.unseen:
        return []
    return [
        f"transactions in flight cannot be seen, so a row that is committed more than {bound.lag_s:g} s after it was "
        f"stamped can be missed: {bound.unseen}; where transactions last longer, set cursor.lag"
    ]


def refuse_too_old(source: Source, bound: Bound) -> None:
    """Raise WriterTooOld where a transaction has been holding the end back for longer than the source allows."""
    if bound.writer_too_old and source.cursor:
        raise WriterTooOld(
            f"source {source.source!r}: nothing new can be read safely: {bound.writer} has been in a transaction since "
            f"{bound.writer_since}, longer than cursor.longest_writer = {source.cursor.longest_writer}. Ask the "
            "database's administrator to end it, or raise that limit if it is a backup or the like"
        )
