"""Decides which rows a run covers, from its mode, its data interval and the checkpoint, and in which slices.

Of the database it asks the catalogue only.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from include.etl import quarantine, slices
from include.etl.config import Source
from include.etl.engines import open_source
from include.etl.errors import ConfigurationError
from include.etl.handover import Bounds, Mode, Plan, Slice, Window
from include.etl.records import checkpoint, manifest
from include.etl.records.run import Run, measured
from include.etl.storage import Storage

log = logging.getLogger("etl.plan")
ISO = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?(Z|[+-]\d{2}:?\d{2})?"


@dataclass(frozen=True)
class Parameters:
    """What a person asked for; everything may be left out."""

    mode: str | None = None
    start: str | None = None
    end: str | None = None
    last_n_days: int | None = None
    reason: str = ""
    release: str | None = None


@dataclass(frozen=True)
class Trigger:
    """What started the run, and the data interval it stands for (None for most manual runs)."""

    now: datetime
    interval: tuple[datetime, datetime] | None = None
    scheduled: bool = False
    backfill: bool = False
    default_mode: Mode = "incremental"
    triggered_by: str = ""


def plan(run: Run, parameters: Parameters, trigger: Trigger, variables: checkpoint.Variables) -> Plan:
    """The window and its slices, recorded.

    Raises:
        ConfigurationError: a parameter makes no sense, or the checkpoint cannot be used.
    """
    with measured(run, "plan") as counter:
        decided = decide(run, parameters, trigger, variables)
        cuts = survey(run.source, decided.window)
        slices.keep(run, cuts)
        decided = decided.model_copy(update={"slices": [Slice(index=number) for number in range(len(cuts))]})
        counter.facts.update(window=decided.window.model_dump(mode="json"), slices=len(decided.slices))
        log.info("%s reads %s", run.source.source, decided.window.label)
        return decided


def survey(source: Source, window: Window) -> list[Bounds]:
    """The window's slices, from the catalogue of the database; warns of a query that no index can serve.

    Cutting pays for a read of everything, in a first or a full run; the catalogue cannot tell a later window's rows.
    """
    table = source.table or (source.split and source.split.table)
    columns = [found.column for found in (source.split, source.cursor) if found]
    if not table or not columns:
        return [Bounds()]
    with open_source(source, f"moh-etl {source.source} plan").session() as session:
        found = session.statistics(table, columns[0])
    for column in columns:
        if found.leading is not None and column not in found.leading:
            log.warning(
                "%s: column %s leads no index of %s: the database has to scan the whole table for every run. "
                "Ask its administrator for an index",
                source.source,
                column,
                table,
            )
    if not source.split or window.read_from is not None:
        return [Bounds()]
    return slices.cut(columns[0], found, source.split.rows)


def decide(run: Run, parameters: Parameters, trigger: Trigger, variables: checkpoint.Variables) -> Plan:
    """The same without a record, for a dry run.

    A run that has published before (it was cleared) gets its old window again, and so replaces its own files.
    """
    if parameters.release:
        parameters = _releasing(run, parameters)
    mode = choose_mode(run.source, parameters, trigger)
    earlier = manifest.of_run(run.storage, run.source, run.dag_id, run.run_id)
    window = earlier.window if earlier else _window(run.source, mode, parameters, trigger, variables, run.storage)
    return Plan(
        run_id=run.run_id,
        window=window,
        bound=_bound(window, trigger),
        reason=parameters.reason,
        triggered_by=trigger.triggered_by,
        releases=parameters.release,
    )


def _releasing(run: Run, parameters: Parameters) -> Parameters:
    """What to read so that the rows that a run has set aside are read again."""
    asked = [name for name in ("mode", "start", "end", "last_n_days") if getattr(parameters, name) is not None]
    if asked:
        raise _refused(run.source, asked[0], getattr(parameters, asked[0]), "nothing with release")
    one = quarantine.one_of(run.storage, run.source.source, str(parameters.release))
    reason = parameters.reason or f"release of what run {one.run_id} has set aside"
    span = quarantine.span(run.storage, run.source, one)
    if span is None:
        return Parameters(mode="full", reason=reason, release=one.run_key)
    start, end = (moment.isoformat() for moment in span)
    return Parameters(mode="range", start=start, end=end, reason=reason, release=one.run_key)


def choose_mode(source: Source, parameters: Parameters, trigger: Trigger) -> Mode:
    """The mode a run has: as asked for, else as its parameters imply, else as the DAG is scheduled."""
    ranged = [name for name in ("start", "end", "last_n_days") if getattr(parameters, name) is not None]
    allowed: list[Mode] = ["incremental", "full", "range"] if source.cursor else ["full"]
    asked = parameters.mode or ("range" if ranged else None)
    if asked is None:
        return "backfill" if trigger.backfill and trigger.default_mode == "incremental" else trigger.default_mode
    if asked not in allowed:
        why = "" if source.cursor else " (the source has no cursor)"
        raise _refused(source, "mode", asked, ", ".join(allowed) + why)
    if ranged and asked != "range":
        raise _refused(source, ranged[0], getattr(parameters, ranged[0]), f"nothing with mode {asked}; use mode range")
    if asked == "range" and not {"start", "last_n_days"} & set(ranged):
        raise _refused(source, "start", None, "a moment, or last_n_days, with mode range")
    if {"last_n_days"} < set(ranged):
        raise _refused(source, "last_n_days", parameters.last_n_days, "alone, without start and end")
    mode: Mode = next(mode for mode in allowed if mode == asked)
    return mode


def _window(
    source: Source,
    mode: Mode,
    parameters: Parameters,
    trigger: Trigger,
    variables: checkpoint.Variables,
    storage: Storage,
) -> Window:
    if mode == "range":
        return _range(source, parameters, trigger)
    end = trigger.interval[1] if trigger.interval and trigger.scheduled else _whole_second(trigger.now)
    if mode == "full":
        checkpoint.parse(source, variables)  # it will be moved: one that cannot be understood is refused now
        return Window(mode="full", end=end)
    if mode == "backfill":
        if trigger.interval is None:
            raise ConfigurationError(f"source {source.source!r}: a backfill run without data interval")
        start, end = trigger.interval
        return Window(mode="backfill", start=start, end=end, read_from=start)
    return _incremental(source, end, trigger, checkpoint.read(source, variables, storage))


def _incremental(source: Source, end: datetime, trigger: Trigger, current: checkpoint.Checkpoint | None) -> Window:
    """From the checkpoint, or from the interval's start if that is earlier; without a checkpoint from the beginning."""
    if current is None:
        return Window(mode="incremental", end=end)
    start = min(current.bound, trigger.interval[0]) if trigger.interval and trigger.scheduled else current.bound
    if start > end:
        raise checkpoint.ahead(source, current, end)
    assert source.cursor is not None
    return Window(mode="incremental", start=start, end=end, read_from=start - source.cursor.lookback)


def _range(source: Source, parameters: Parameters, trigger: Trigger) -> Window:
    end = _moment(source, "end", parameters.end) if parameters.end is not None else _whole_second(trigger.now)
    if parameters.last_n_days is not None:
        start = _days_ago(source, parameters.last_n_days, trigger.now)
    else:
        start = _moment(source, "start", str(parameters.start))
    if end > trigger.now:
        raise _refused(source, "end", parameters.end, "a moment that has passed")
    if start >= end:
        raise _refused(source, "start", parameters.start, f"a moment before the end, {end.isoformat()}")
    return Window(mode="range", start=start, end=end, read_from=start)


def _days_ago(source: Source, days: int, now: datetime) -> datetime:
    """Midnight, in the source's time zone, that many days ago: whole days, and today so far."""
    if not isinstance(days, int) or not 1 <= days <= 36_500:
        raise _refused(source, "last_n_days", days, "a whole number from 1 to 36500")
    day = now.astimezone(source.zone).date() - timedelta(days=days)
    return datetime(day.year, day.month, day.day, tzinfo=source.zone).astimezone(UTC)


def _moment(source: Source, name: str, text: str) -> datetime:
    """A date or date with time; one without zone is in the source's time zone."""
    allowed = "an ISO date or time such as 2024-01-31 or 2024-01-31T08:00:00+08:00"
    if not re.fullmatch(ISO, text.strip()):
        raise _refused(source, name, text, allowed)
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=source.zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refused(source, name, text, allowed) from None


def _whole_second(moment: datetime) -> datetime:
    """The second that has ended: a row written later in the running one may bear its very beginning as cursor."""
    return moment.replace(microsecond=0)


def _bound(window: Window, trigger: Trigger) -> str:
    if window.mode == "range":
        return "as asked"
    return "end of the data interval" if trigger.scheduled or trigger.backfill else "start of the run"


def _refused(source: Source, name: str, value: object, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"source {source.source!r}: parameter {name}: {value!r}; allowed: {allowed}")
