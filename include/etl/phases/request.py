"""What was asked of a run, what started it, and the window in time that follows from both and the checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from include.etl.config import Source
from include.etl.errors import ConfigurationError
from include.etl.handover import Mode, Window
from include.etl.records import audit, checkpoint
from include.etl.storage import Storage

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
    from_beginning: bool = False
    """Read from the first row on, rows without cursor value included: a recovery's range or incremental run."""
    keep_published: bool = False
    """See `Plan`."""


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


def choose_mode(source: Source, parameters: Parameters, trigger: Trigger) -> Mode:
    """The mode a run has: as asked for, else as its parameters imply, else as the DAG is scheduled."""
    ranged = [name for name in ("start", "end", "last_n_days") if getattr(parameters, name) is not None]
    allowed: list[Mode] = ["incremental", "full", "range"] if source.cursor else ["full"]
    asked = parameters.mode or ("range" if ranged else None)
    if asked is None:
        return "backfill" if trigger.backfill and trigger.default_mode == "incremental" else trigger.default_mode
    if asked not in allowed:
        why = "" if source.cursor else " (the source has no cursor)"
        raise refused(source, "mode", asked, ", ".join(allowed) + why)
    if ranged and asked != "range":
        raise refused(source, ranged[0], getattr(parameters, ranged[0]), f"nothing with mode {asked}; use mode range")
    if asked == "range" and not ({"start", "last_n_days"} & set(ranged) or parameters.from_beginning):
        raise refused(source, "start", None, "a moment, or last_n_days, with mode range")
    if {"last_n_days"} < set(ranged):
        raise refused(source, "last_n_days", parameters.last_n_days, "alone, without start and end")
    mode: Mode = next(mode for mode in allowed if mode == asked)
    return mode


def window_of(
    source: Source,
    mode: Mode,
    parameters: Parameters,
    trigger: Trigger,
    variables: checkpoint.Variables,
    storage: Storage,
) -> Window:
    """The window of a run of this mode; its end is not safe yet."""
    if mode == "range":
        return range_of(source, parameters, trigger)
    end = trigger.interval[1] if trigger.interval and trigger.scheduled else _whole_second(trigger.now)
    if mode == "full":
        # It will be moved: one that cannot be used is refused now.
        checkpoint.refuse_ahead(source, checkpoint.parse(source, variables), trigger.now)
        return Window(mode="full", end=end)
    if mode == "incremental" and parameters.from_beginning:
        return Window(mode="incremental", end=end)
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


def range_of(source: Source, parameters: Parameters, trigger: Trigger) -> Window:
    """The window that a person asked for by its ends, or by days."""
    end = _moment(source, "end", parameters.end) if parameters.end is not None else _whole_second(trigger.now)
    start: datetime | None = None
    if parameters.last_n_days is not None:
        start = _days_ago(source, parameters.last_n_days, trigger.now)
    elif not parameters.from_beginning:
        start = _moment(source, "start", str(parameters.start))
    if end > trigger.now:
        raise refused(source, "end", parameters.end, "a moment that has passed")
    if start is not None and start >= end:
        raise refused(source, "start", parameters.start, f"a moment before the end, {end.isoformat()}")
    return Window(mode="range", start=start, end=end, read_from=start)


def _days_ago(source: Source, days: int, now: datetime) -> datetime:
    """Midnight, in the source's time zone, that many days ago: whole days, and today so far."""
    if not isinstance(days, int) or not 1 <= days <= 36_500:
        raise refused(source, "last_n_days", days, "a whole number from 1 to 36500")
    day = now.astimezone(source.zone).date() - timedelta(days=days)
    return datetime(day.year, day.month, day.day, tzinfo=source.zone).astimezone(UTC)


def _moment(source: Source, name: str, text: str) -> datetime:
    """A date or date with time; one without zone is in the source's time zone."""
    allowed = "an ISO date or time such as 2024-01-31 or 2024-01-31T08:00:00+08:00"
    if not re.fullmatch(ISO, text.strip()):
        raise refused(source, name, text, allowed)
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=source.zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise refused(source, name, text, allowed) from None


def _whole_second(moment: datetime) -> datetime:
    """The second that has ended: a row written later in the running one may bear its very beginning as cursor."""
    return moment.replace(microsecond=0)


def refused(source: Source, name: str, value: object, allowed: str) -> ConfigurationError:
    """The error for a parameter that makes no sense."""
    return ConfigurationError(f"source {source.source!r}: parameter {name}: {value!r}; allowed: {allowed}")
