"""What a source's cursor column holds that windows do not reach: looked for in every run, never left out in silence.

A run reads what lies between two positions. A zero date, an infinity or a text that is no date lies between none, and a
time of the far future not for years; so their rows would not be read, run after run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import sqlglot
from sqlglot import exp

from include.etl import cursor, unreadable
from include.etl.completeness.checksums import counted, selecting
from include.etl.config import Source
from include.etl.engines import open_source
from include.etl.engines.base import Engine, Numbering, Query, Session, Statistics, Value
from include.etl.errors import ConfigurationError, DataError
from include.etl.handover import Bound, Mode, Window
from include.etl.numbering import doubts, overtaken
from include.etl.query import build, first_rows, quote
from include.etl.records.checkpoint import CLOCKS
from include.etl.survey import statistics_of, table_of
from include.etl.unreadable import Unreadable, kinds

FUTURE = "cursor_future"
ROUNDING = timedelta(minutes=10)
"""Zones differ by a quarter of an hour at least; less is a clock that is wrong."""
SMALL = 1_000_000
"""Rows of a table that is read once more where no index serves; the run itself reads it twice."""
FEW = 100_000
"""The same for the tables below a view or a join together: what it makes of them may be many more."""
TABLES = 20
"""Tables whose rows are asked for; more of them, such as partitions, are not taken for small."""


@dataclass
class Checked:
    """What operators are to know of a cursor column."""

    caveats: list[str] = field(default_factory=list)
    """What is not read, though nobody doubts the window's end."""
    doubts: list[str] = field(default_factory=list)
    """Why rows may be missed before the window's end."""
    numbering: Numbering | None = None
    """What hands out the numbers, where the cursor is one."""

    def on(self, bound: Bound) -> Bound:
        """The bound, with what was found."""
        largest = bound.asked - 1 if isinstance(bound.asked, int) else None
        why = [*self.doubts, *filter(None, [overtaken(self.numbering, largest)])]
        if not (self.caveats or why):
            return bound
        checked = [*why, *self.caveats]
        told = list(dict.fromkeys([*bound.caveats, *checked]))
        grade = "not proven" if why else bound.grade
        return bound.model_copy(update={"caveats": told, "checked": checked, "degraded": True, "grade": grade})


@dataclass(frozen=True)
class _Column:
    """The cursor column of a source, in a session with its database."""

    source: Source
    engine: Engine
    session: Session
    everything: Query
    name: str
    type_: pa.DataType

    @property
    def sql(self) -> str:
        return quote(self.name, self.engine.dialect)

    @property
    def kinds(self) -> Sequence[Unreadable]:
        return kinds(self.engine.dialect, self.type_)

    @property
    def label(self) -> str:
        return f"cursor column {self.name!r} of {self.source.table or self.source.query}"

    def count(self, conditions: Sequence[str], params: Mapping[str, Value], where: str = "") -> list[int]:
        """How many rows meet each of the conditions, of those that meet `where`; one pass."""
        dialect = self.engine.dialect
        forms = [f"case when {condition.format(self.sql)} then 1 end" for condition in conditions]
        named = [f"{counted(dialect, form)} as n_{number}" for number, form in enumerate(forms)]
        query = Query(self.everything.sql, {**self.everything.params, **params})
        return [int(n) for n in self.session.single_row(selecting(query, dialect, named, where.format(self.sql)))]


def check(source: Source, mode: Mode = "incremental") -> Checked:
    """What the cursor column holds that windows do not reach, as far as it matters to a run of this mode.

    Raises:
        DataError: it holds values that are no position, and `cursor.unreadable` is `refuse`.
        ConfigurationError: it is not of the kind that `cursor.type` says.
    """
    if source.cursor is None or source.cursor.type == "rowversion":
        return Checked()
    engine = open_source(source, f"moh-etl {source.source} plan")
    with engine.session() as session:
        everything = build(source, engine.dialect, Window(mode="full", end=0))
        columns = session.schema(everything)
        if source.cursor.column not in columns.names:
            return Checked()  # extract says so, with the columns that there are
        type_ = columns.field(source.cursor.column).type
        column = _Column(source, engine, session, everything, source.cursor.column, type_)
        checked = _judged(column, mode)
        if not _goes_on(source, mode):
            return checked
        if source.cursor.numbered:
            checked.numbering = _numbering(column)
            checked.doubts += [f"{column.label}: {why}" for why in doubts(source, checked.numbering)]
        elif not getattr(type_, "tz", None):
            checked.caveats += _another_zone(column)
        return checked


def _goes_on(source: Source, mode: Mode) -> bool:
    """Whether a window begins where this one ends, so that a row that comes below its end later is lost."""
    return mode in ("incremental", "backfill") or (mode == "full" and source.schedule.incremental is not None)


def _numbering(column: _Column) -> Numbering | None:
    """By the table that is named; where that is a view, by the tables below it."""
    table = table_of(column.source, Window(mode="full", end=0), column.engine.dialect)
    found = column.session.numbering(table, column.name) if table else None
    if found:
        return found
    below = column.session.origins(column.everything).relations
    return next(filter(None, (column.session.numbering(place, column.name) for place in below)), None)


def _another_zone(column: _Column) -> list[str]:
    """Why rows may be stamped in another zone than `cursor.timezone`, where nobody has set that.

    Raises:
        ConfigurationError: rows that the server's clock stamps would lie before what has been read, and be lost.
    """
    cursor = column.source.cursor
    assert cursor is not None
    if "timezone" in cursor.model_fields_set:
        return []
    now = datetime.now(UTC).replace(microsecond=0)
    seasons = [datetime(now.year, month, 15, 12, tzinfo=UTC) for month in (1, 7)]
    zone = ZoneInfo(cursor.timezone)
    shown = column.session.wall_clock([now, *seasons])
    apart = [clock - moment.astimezone(zone).replace(tzinfo=None) for moment, clock in shown.items()]
    told = f"has no zone, and cursor.timezone is not set (so {cursor.timezone}), but the server's clock is"
    remedy = f"Set cursor.timezone to the zone of the clocks that stamp it, also if that is {cursor.timezone}"
    if apart and min(apart) < -ROUNDING:
        raise ConfigurationError(
            f"source {column.source.source!r}: {column.label} {told} {_hours(-min(apart))} behind: a row that it "
            f"stamps lies before what has been read, and would be lost. {remedy}"
        )
    if apart and max(apart) > ROUNDING:
        return [f"{column.label} {told} {_hours(max(apart))} ahead: what it stamps is read that much later. {remedy}"]
    return []


def _hours(apart: timedelta) -> str:
    return f"{apart / timedelta(hours=1):.3g} h"


def _judged(column: _Column, mode: Mode) -> Checked:
    source, checked = column.source, Checked()
    assert source.cursor is not None
    after = None if source.cursor.numbered or not _goes_on(source, mode) else _first_of_the_future(column)
    looked_for = [*column.kinds, *([] if after is None else [_future(column)])]
    try:
        numbers = _counted(column, looked_for, {} if after is None else {FUTURE: after})
    except (ConfigurationError, DataError) as error:
        # What a database says of a value that it cannot compute may hold the value.
        cause = str(error) if isinstance(error, ConfigurationError) else "the database failed at a value of a row"
        why = [f"{column.label}: whether rows lie where no window is was not looked for: {cause}"]
        return Checked(doubts=why) if column.kinds else Checked(caveats=why)
    ahead = numbers.pop(FUTURE, 0)
    found = [f"{n} rows with {kind}" for kind, n in numbers.items()]
    if found and source.cursor.unreadable == "refuse":
        raise DataError(
            f"source {source.source!r}: cursor.column: {column.name!r}: {'; '.join(found)}: no window holds such a "
            "value, so that no run would read these rows. Correct them in the source, or give them another value in a "
            "query (NULL is read by every run, see cursor.nulls), or set cursor.unreadable: skip, which leaves them "
            "out and says so"
        )
    checked.caveats += [f"{column.label}: {one}, left out (cursor.unreadable: skip)" for one in found]
    if ahead:
        zone = "" if getattr(column.type_, "tz", None) else f" by cursor.timezone = {source.cursor.timezone}"
        read = "are read by full runs alone" if mode == "full" else "are not read"
        checked.caveats.append(
            f"{column.label}: {ahead} rows bear a time of the future{zone}, and {read} before it has come: they are "
            "mistyped, or stamped by clocks of another time zone"
        )
    return checked


def _first_of_the_future(column: _Column) -> Value:
    """The first value of the column that rows cannot have been stamped with yet, even if clocks differ a little."""
    after = datetime.now(UTC) + CLOCKS
    if pa.types.is_date(column.type_):
        after += timedelta(days=1)
    return cursor.bound(after, column.type_, column.source)


def _future(column: _Column) -> Unreadable:
    """Rows that are read when their time comes, which may be in hours or in 200 years."""
    readable = f" and {unreadable.none_of(column.kinds)}" if column.kinds else ""
    return Unreadable(FUTURE, f"{{0}} >= :{FUTURE}{readable}")


def _counted(column: _Column, looked_for: Sequence[Unreadable], params: Mapping[str, Value]) -> dict[str, int]:
    """The rows of each kind that there are, by the column's index; or by one pass where that costs little.

    Raises:
        ConfigurationError: it would cost too much, or the database refuses.
    """
    if not looked_for:
        return {}
    table = _table(column)
    known = statistics_of(column.source, column.session, table, column.name) if table else Statistics()
    if column.name in (known.leading or ()):
        found = {one.kind: column.count([one.condition], params, one.seek or one.condition)[0] for one in looked_for}
    else:
        _refuse_dear(column, table, known)
        numbers = column.count([one.condition for one in looked_for], params)
        found = dict(zip([one.kind for one in looked_for], numbers, strict=True))
    return {kind: n for kind, n in found.items() if n}


def _table(column: _Column) -> str | None:
    """The table whose own column this is, so that conditions on it reach the table's index; None of all else."""
    source, dialect = column.source, column.engine.dialect
    if source.table:
        return source.table
    parsed = sqlglot.parse_one(column.everything.sql, dialect=dialect)
    made = (exp.Join, exp.Group, exp.Distinct, exp.Limit, exp.Fetch, exp.Window, exp.Subquery, exp.With)
    if not isinstance(parsed, exp.Select) or parsed.find(*made):
        return None
    same = [one for one in parsed.selects if isinstance(one, exp.Column) and one.name == column.name]
    if not (same or parsed.is_star):
        return None
    return table_of(source, Window(mode="full", end=0), dialect)


def _refuse_dear(column: _Column, table: str | None, known: Statistics) -> None:
    """Raise ConfigurationError unless all that a pass reads is known to be small, and the source can bear it."""
    of_table = table is not None and known.leading is not None
    whole = (
        f"it leads no index of {table}" if of_table else "no index is known to serve it (a view, a join or the like)"
    )
    if not column.source.verify.count:
        raise ConfigurationError(f"{whole}, and verify.count is false, so nothing is read for this")
    why = _dear([str(table)], column, SMALL) if of_table else _dear_below(column)
    if why:
        raise ConfigurationError(f"{whole}, and {why} to read all of it for this")


def _dear_below(column: _Column) -> str:
    """Why a view or a join may cost much; empty where the tables below it are few, here, and small."""
    origins = column.session.origins(column.everything)
    places = [*origins.relations, *origins.partitions]
    if unknown := [*filter(None, [origins.elsewhere]), *origins.unchecked]:
        return f"it may be too large ({'; '.join(unknown)})"
    if len(places) > TABLES:
        return f"it reads more than {TABLES} tables, too many"
    if column.engine.dialect == "sqlite":  # its catalogue has bare names only
        places = [place.removeprefix("main.") for place in places]
    return _dear(places, column, FEW)


def _dear(places: Sequence[str], column: _Column, most: int) -> str:
    """Why reading these tables may cost much; a view counts by the tables below it, which stand beside it."""
    found = [rows for place in places if (rows := _rows(column, place, most)) is not None]
    if not found:
        return "how large it is is not known, so it may be too large"
    return "it is too large" if sum(found) > most else ""


def _rows(column: _Column, table: str, most: int) -> int | None:
    """Rows of a table by the catalogue; where nobody has analysed it, they are counted up to `most`. None of a view."""
    known = statistics_of(column.source, column.session, table, column.name)
    if known.leading is None or known.rows:
        return known.rows
    dialect = column.engine.dialect
    (rows,) = column.session.single_row(
        selecting(first_rows(table, most + 1, dialect), dialect, [f"{counted(dialect)} as n"])
    )
    return int(rows)
