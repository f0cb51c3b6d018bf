"""Increasing numbers as a cursor: how far they may be read, though they are handed out early and committed late.

The largest number that can be seen is observed first, and the transactions in flight are looked at after that. Whoever
took a smaller number did so before, in a transaction that had begun before. Where none of those is open any more, all
numbers up to the observed one are decided: committed, and seen by what reads afterwards, or gone for ever.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from include.etl import cursor, row_versions, set_back
from include.etl.completeness.checksums import selecting
from include.etl.config import Source
from include.etl.config_sections import Cursor
from include.etl.engines import open_source
from include.etl.engines.base import Writer, Writers
from include.etl.errors import ConfigurationError
from include.etl.handover import Bound, Handover, Mode, Moment, Window, written
from include.etl.horizon import MARGIN, began, degraded, grade, lag, of_origins
from include.etl.phases.request import Parameters, refused
from include.etl.query import build, quote
from include.etl.records import checkpoint
from include.etl.records.run import Run
from include.etl.storage import Storage, read_json, write_json
from include.etl.unreadable import positions

PATIENCE, PAUSE_S = timedelta(seconds=30), 0.5
"""How long plan waits for transactions to end, with no session open, and how often it looks."""
MOST = 100
"""Observations that are kept; the oldest are decided first."""


class Observation(Handover):
    """All numbers below `end` had been handed out by this time of the server's clock."""

    end: int
    at: Moment


def observe(source: Source) -> int | None:
    """The first number that nobody had been seen to bear; None for an empty table. The session ends with this."""
    assert source.cursor is not None
    name, engine = source.cursor.column, open_source(source, f"moh-etl {source.source} plan")
    with engine.session() as session:
        everything = build(source, engine.dialect, Window(mode="full", end=0))
        columns = session.schema(everything)
        if name not in columns.names:
            raise ConfigurationError(
                f"source {source.source!r}: cursor.column: {name!r} is not in the result of "
                f"{source.query or source.table}; allowed: {', '.join(columns.names)}"
            )
        type_, quoted = columns.field(name).type, quote(name, engine.dialect)
        cursor.bound(0, type_, source)  # refuses a column that holds no whole numbers
        where = positions(engine.dialect, type_).format(quoted)
        largest = selecting(everything, engine.dialect, [f"max({quoted}) AS largest"], where)
        (found,) = session.single_row(largest)
    return None if found is None else int(found) + 1


def settle(source: Source, storage: Storage, observed: int | None, look: Callable[[], Writers]) -> Bound:
    """The end of what is decided: by the observation just made, or by an earlier one where waiting does not help."""
    assert source.cursor is not None
    writers, deadline = look(), time.monotonic() + PATIENCE.total_seconds()
    newest = None if observed is None else Observation(end=observed, at=writers.now)
    known = [*kept(storage, source), *([newest] if newest else [])]
    wait = lag(source.cursor, writers)
    while newest and not _decided(newest, source.cursor, writers):
        if wait > PATIENCE or time.monotonic() > deadline:
            break
        time.sleep(PAUSE_S)
        writers = look()
    return _bound(source.cursor, newest, known, writers)


def _bound(cursor: Cursor, newest: Observation | None, known: Sequence[Observation], writers: Writers) -> Bound:
    open_since = sorted(_pending(newest, cursor, writers), key=lambda writer: began(writer, cursor)) if newest else []
    oldest = open_since[0] if open_since else None
    return Bound(
        grade=grade(writers),
        asked=newest and newest.end,
        safe=max((one.end for one in known if _decided(one, cursor, writers)), default=None),
        observed_at=newest and newest.at,
        lag_s=lag(cursor, writers).total_seconds(),
        unseen=writers.unseen,
        **of_origins(writers.origins),
        degraded=degraded(cursor, writers),
        writer=oldest and oldest.session,
        writer_since=oldest and oldest.since,
        writer_too_old=oldest is not None and writers.now - oldest.since > cursor.longest_writer,
    )


def _decided(one: Observation, cursor: Cursor, writers: Writers) -> bool:
    """Whether every transaction that may bear a number below its end has been committed or rolled back."""
    return writers.now >= one.at + lag(cursor, writers) and not _pending(one, cursor, writers)


def _pending(one: Observation, cursor: Cursor, writers: Writers) -> list[Writer]:
    """Who was, or may have been, in a transaction when it was made; a number may be taken `lag` before that begins."""
    until = one.at + MARGIN + (cursor.lag or timedelta(0))
    return [writer for writer in writers.in_flight if began(writer, cursor) <= until]


def kept(storage: Storage, source: Source) -> list[Observation]:
    """Observations of earlier runs. Where they are lost, or of another table or column, the next ones begin anew."""
    path = _path(storage, source)
    found = read_json(path) if path.exists() else {}
    listed = found.get("observations", []) if found.get("of") == _of(source) else []
    return [Observation.model_validate(one) for one in listed]


def remember(storage: Storage, source: Source, bound: Bound) -> None:
    """Keep what was observed for later runs, and of what is decided the last."""
    if not isinstance(bound.asked, int) or bound.observed_at is None:
        return
    new = Observation(end=bound.asked, at=bound.observed_at)
    known = [one for one in kept(storage, source) if bound.safe is None or one.end >= bound.safe]  # type: ignore[operator]
    observations = [one.model_dump(mode="json") for one in [*(one for one in known if one != new), new][:MOST]]
    write_json(_path(storage, source), {"of": _of(source), "observations": observations})


def decide(
    run: Run,
    mode: Mode,
    parameters: Parameters,
    variables: checkpoint.Variables,
    look: Callable[[], Writers],
) -> tuple[Window, Bound, bool]:
    """The window in numbers, what its end rests on, and whether there is something to read in it. Raises as `asked`."""
    source = run.source
    first, last = asked(run, mode, parameters, variables)
    if source.cursor and source.cursor.type == "rowversion":
        bound = row_versions.settle(source, look)
    else:
        bound = settle(source, run.storage, observe(source), look)
    if mode != "range":
        _refuse_ahead(run, bound, variables)
        bound = set_back.doubted(run, first, bound, variables)
    found, something = window(mode, first, last, bound)
    return found, bound, something


def _refuse_ahead(run: Run, bound: Bound, variables: checkpoint.Variables) -> None:
    """Raise CheckpointError for a number that nobody has borne yet: nothing would be read any more, in silence.

    Where the newest rows have been deleted, earlier runs have seen them. An empty table has nothing to lose.
    """
    current = checkpoint.parse(run.source, variables)
    ends = [one.end for one in kept(run.storage, run.source)] + ([bound.asked] if isinstance(bound.asked, int) else [])
    if current is not None and ends and int(written(current.bound)) > max(ends):
        raise checkpoint.ahead(run.source, current.bound, max(ends))


def asked(
    run: Run, mode: Mode, parameters: Parameters, variables: checkpoint.Variables
) -> tuple[int | None, int | None]:
    """Where a window begins, and where it is asked to end; None for where the table does.

    Raises:
        ConfigurationError: a parameter makes no sense for numbers, or the checkpoint cannot be used.
    """
    source = run.source
    if mode == "backfill":
        raise refused(source, "mode", mode, "full, range or incremental: no date tells which numbers to read")
    if mode == "range":
        low, high = (_number(source, name, getattr(parameters, name)) for name in ("start", "end"))
        if low is not None and high is not None and low >= high:
            raise refused(source, "start", parameters.start, f"a number below the end, {high}")
        return low, high
    if mode == "full":
        checkpoint.parse(source, variables)  # it will be moved: one that cannot be understood is refused now
        return None, None
    if parameters.from_beginning:
        return None, None
    current = checkpoint.read(source, variables, run.storage)
    return (None if current is None else int(written(current.bound))), None


def _number(source: Source, name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"-?\d{1,38}", str(text).strip(), re.ASCII):
        raise refused(source, name, text, "a whole number, since the cursor is one")
    if source.cursor and source.cursor.type == "rowversion" and not 0 <= int(text) < 1 << 63:
        raise refused(source, name, text, f"a row version, from 0 to {(1 << 63) - 1}")
    return int(text)


def window(mode: Mode, start: int | None, end: int | None, bound: Bound) -> tuple[Window, bool]:
    """The window in numbers, and whether there is something to read in it."""
    safe = bound.safe if isinstance(bound.safe, int) else None
    last = safe if end is None else end if safe is None else min(end, safe)
    empty = last is None or (start is not None and last <= start)
    reached = start or 0 if last is None else last if start is None else max(last, start)
    return Window(mode=mode, start=start, end=reached, read_from=start), not empty


def _path(storage: Storage, source: Source) -> Path:
    return storage.folder("observations", source.source) / "numbers.json"


def _of(source: Source) -> list[str | None]:
    """What makes observations comparable."""
    assert source.cursor is not None
    return [source.conn_id, source.table or source.query, source.cursor.column]
