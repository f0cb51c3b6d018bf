"""Decides which rows a run covers, from its mode, its data interval and the checkpoint, and in which slices.

Of the database it asks who may still write, and the catalogue.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from include.etl import numbers, quarantine, slices
from include.etl.config import Source
from include.etl.engines import open_source
from include.etl.engines.base import Writers
from include.etl.errors import ConfigurationError
from include.etl.handover import Mode, Plan, Slice, Window, written
from include.etl.horizon import conditions, horizon, refuse_too_old
from include.etl.phases import dropping
from include.etl.publication import standing
from include.etl.records import audit, checkpoint, extraction_audit
from include.etl.records.run import Run, begin_anew, close_interrupted, measured
from include.etl.storage import Storage
from include.etl.survey import survey

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
    drop: str | None = None


@dataclass(frozen=True)
class Trigger:
    """What started the run, and the data interval it stands for (None for most manual runs)."""

    now: datetime
    interval: tuple[datetime, datetime] | None = None
    scheduled: bool = False
    backfill: bool = False
    default_mode: Mode = "incremental"
    triggered_by: str = ""

    @property
    def who(self) -> str:
        """The person who started the run, or the scheduler."""
        return self.triggered_by or ("scheduler" if self.scheduled else audit.user())

    @property
    def kind(self) -> str:
        """How it was started. A backfill is a person's, but makes many runs."""
        return "scheduled" if self.scheduled else "backfill" if self.backfill else "by hand"


def plan(run: Run, parameters: Parameters, trigger: Trigger, variables: checkpoint.Variables) -> Plan:
    """The window and its slices, recorded; no slices where nothing can be read safely yet.

    Raises:
        ConfigurationError: a parameter makes no sense, or the checkpoint cannot be used.
        WriterTooOld: nothing can be read safely, and has not been for long.
    """
    with measured(run, "plan") as counter:
        begin_anew(run)
        close_interrupted(run)
        counter.facts = {"who": trigger.who, "reason": parameters.reason}
        decided = decide(run, parameters, trigger, variables, lambda: look(run.source))
        if parameters.drop:
            counter.facts.update(slices=0, dropped=dropping.drop(run, decided, parameters.drop))
            return decided
        counter.facts.update(window=decided.window.model_dump(mode="json"), bound=decided.bound.model_dump(mode="json"))
        counter.facts.update(slices=len(decided.slices), conditions=conditions(run.source, decided.bound))
        numbers.remember(run.storage, run.source, decided.bound)
        if not decided.slices:
            refuse_too_old(run.source, decided.bound)
            extraction_audit.started(run, decided, trigger.kind)
            log.warning("%s: nothing can be read safely yet: %s", run.source.source, decided.bound.label)
            return decided
        cuts = survey(run.source, decided.window)
        slices.keep(run, cuts)
        decided = decided.model_copy(update={"slices": [Slice(index=number) for number in range(len(cuts))]})
        counter.facts["slices"] = len(decided.slices)
        extraction_audit.started(run, decided, trigger.kind)
        log.info("%s reads %s; its end: %s", run.source.source, decided.window.label, decided.bound.label)
        return decided


def look(source: Source) -> Writers:
    """Who may still write to the source, and what its clock says."""
    with open_source(source, f"moh-etl {source.source} plan").session() as session:
        return session.writers()


def decide(
    run: Run,
    parameters: Parameters,
    trigger: Trigger,
    variables: checkpoint.Variables,
    look: Callable[[], Writers] | None = None,
) -> Plan:
    """The same without a record, for a dry run. `look` says who may still write; without it the end is as asked.

    A run that has published before (it was cleared) gets its old window again, and so replaces its own files.
    """
    _check_reason(run.source, parameters, trigger)
    if parameters.drop:
        return dropping.planned(run, parameters, trigger.who)
    if parameters.release:
        parameters = _releasing(run, parameters)
    mode = choose_mode(run.source, parameters, trigger)
    numbered = run.source.cursor is not None and run.source.cursor.numbered
    if mode == "range" and not numbered:
        _range(run.source, parameters, trigger)  # what makes no sense is refused before the source is asked
    planned = partial(
        Plan,
        run_id=run.run_id,
        reason=parameters.reason,
        triggered_by=trigger.who,
        releases=parameters.release,
    )
    earlier = standing.of_run(run.storage, run.source.source, run.dag_id, run.run_id)
    if earlier:
        return planned(window=earlier.window, bound=earlier.bound)
    if numbered:
        assert look is not None
        if parameters.last_n_days is not None:
            raise _refused(run.source, "last_n_days", parameters.last_n_days, "nothing: the cursor is a number")
        window, bound, something = numbers.decide(run, mode, parameters.start, parameters.end, variables, look)
        return planned(window=window, bound=bound, slices=[Slice()] if something else [])
    writers = look() if look and run.source.cursor else None
    if writers and parameters.end is None:
        trigger = replace(trigger, now=writers.now)
    window = _window(run.source, mode, parameters, trigger, variables, run.storage)
    if writers is None or run.source.cursor is None:
        return planned(window=window)
    assert isinstance(window.end, datetime)  # the cursor is a time
    bound = horizon(run.source.cursor, window.end, writers)
    safe: Any = bound.safe or window.end
    begin: Any = window.start
    end = safe if begin is None else max(safe, begin)
    empty = begin is not None and (safe < begin or window.read_from == end)
    return planned(window=window.model_copy(update={"end": end}), bound=bound, slices=[] if empty else [Slice()])


def _check_reason(source: Source, parameters: Parameters, trigger: Trigger) -> None:
    if source.require_reason and trigger.kind == "by hand" and not parameters.reason.strip():
        raise _refused(source, "reason", parameters.reason, "a sentence that says why, since require_reason is true")


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
    start, end = (written(position) for position in span)
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
        # It will be moved: one that cannot be used is refused now.
        checkpoint.refuse_ahead(source, checkpoint.parse(source, variables), trigger.now)
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
    checkpoint.refuse_ahead(source, current, trigger.now)
    assert isinstance(current.bound, datetime)  # the checkpoint is of the cursor's kind
    start = min(current.bound, trigger.interval[0] if trigger.interval and trigger.scheduled else end)
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


def _refused(source: Source, name: str, value: object, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"source {source.source!r}: parameter {name}: {value!r}; allowed: {allowed}")
