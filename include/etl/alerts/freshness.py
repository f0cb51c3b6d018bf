"""Finds data that is late: what no callback can tell of, since no run has ended, or none has ever started.

A schedule entry is late when its last moment lies `alerts.late_after` back, and nothing has been published since that
reaches beyond the moment before it.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from croniter import croniter

from include.etl.alerts.base import Alert, Finding
from include.etl.alerts.conditions import LATE_RUN, recovered
from include.etl.alerts.delivery import deliver, untold
from include.etl.alerts.memory import Memory, remembered
from include.etl.alerts.report import tell
from include.etl.config import Source
from include.etl.config_alerts import Alerts
from include.etl.handover import Mode
from include.etl.records import manifest
from include.etl.records.run import Run
from include.etl.sources import BrokenSource, default_alerts, load_sources
from include.etl.storage import Storage

log = logging.getLogger("etl.alerts")
WATCHED = "watched"
"""Kept in the memory of a source: since when it is looked at. A new one has a whole interval's time."""


def check_all(now: datetime | None = None) -> list[str]:
    """Tell of each source whose data has become late, or is no longer; the DAGs that are late.

    Raises:
        ExceptionGroup: sources that could not be judged, after all others have been.
    """
    at, late, errors, alerts = now or datetime.now(UTC), [], [], default_alerts()
    for source in load_sources():
        try:
            if isinstance(source, BrokenSource):
                _check_broken(alerts, source, at)
            else:
                late += _check(source, at)
        except Exception as error:
            log.exception("%s: whether its data is late is not known", source.source)
            errors.append(error)
    if errors:
        raise ExceptionGroup("freshness of some sources is not known", errors)
    return late


def _check(source: Source, now: datetime) -> list[str]:
    storage = Storage.from_environment()
    late = []
    with remembered(storage, source.source) as memory:
        watched = memory.since(WATCHED) or now
        if memory.note(WATCHED, watched) == 1:
            log.info("%s is watched from now on", source.source)
        if (since := memory.close("failure", "configuration")) is not None:
            tell(Run(source, "", storage, ""), now, [recovered(since)])
        entries: list[Mode] = ["incremental", "full"]
        for mode in (entry for entry in entries if entry in source.dag_ids):
            run = Run(source, "", storage, source.dag_ids[mode])
            expected, before = _last_moments(source, mode, now - source.alerts.late_after)
            reached, published = _newest(storage, source, mode, before)
            new = reached is None and watched >= expected
            if not new and (published is None or published < expected):
                late.append(run.dag_id)
                _tell_late(run, memory, now, expected, reached)
            elif published is not None and (since := memory.close("late_data", run.dag_id)) is not None:
                memory.close(LATE_RUN, run.dag_id)
                tell(run, now, [recovered(since)])
    return late


def _last_moments(source: Source, mode: Mode, at: datetime) -> tuple[datetime, datetime]:
    """The last moment of the schedule up to `at`, and the one before it: a data interval."""
    schedule = croniter(getattr(source.schedule, mode), at.astimezone(source.zone) + timedelta(microseconds=1))
    expected, before = schedule.get_prev(datetime), schedule.get_prev(datetime)
    return expected.astimezone(UTC), before.astimezone(UTC)


def _newest(storage: Storage, source: Source, mode: Mode, before: datetime) -> tuple[datetime | None, datetime | None]:
    """Up to when data has been published, and when something that reaches beyond `before` was published last."""
    modes = ("full",) if mode == "full" else ("incremental", "full")
    found = [one for one in manifest.current(storage, source.source) if one.window.mode in modes]
    # Where the cursor is a number, a window has no time but that of its publication.
    ends = [(_time(one.window.end, one.published_at), one.published_at) for one in found]
    beyond = [published for end, published in ends if end > before]
    return max((end for end, _ in ends), default=None), max(beyond, default=None)


def _time(end: object, published: datetime) -> datetime:
    return end if isinstance(end, datetime) else published


def _tell_late(run: Run, memory: Memory, now: datetime, expected: datetime, reached: datetime | None) -> None:
    told = memory.since(LATE_RUN, run.dag_id)  # of the run that this moment had started
    if memory.note("late_data", expected, run.dag_id) > 1 or (told and told >= expected):
        return
    zone = run.source.zone
    until = f"data reaches up to {reached.astimezone(zone):%Y-%m-%d %H:%M}" if reached else "nothing was ever published"
    finding = Finding(
        conditions=("late_data",),
        severity="critical",
        what=f"nothing was published for the schedule of {expected.astimezone(zone):%Y-%m-%d %H:%M}",
        details=(until,),
        since=expected,
        to_do="See on the DAG's page whether it is paused, waits, or has failed; then trigger it. This is told once.",
    )
    if tell(run, now, [finding]):
        memory.tell_again("late_data", run.dag_id)


def _check_broken(alerts: Alerts, source: BrokenSource, now: datetime) -> None:
    """A file that cannot be read has no DAG that runs."""
    with remembered(Storage.from_environment(), source.source) as memory:
        if memory.note("failure", now, "configuration") > 1:
            return
        finding = Finding(
            conditions=("failure",),
            severity="critical",
            what="its file in include/sources cannot be used, so it does not run",
            details=(source.error,),
            since=now,
            to_do="Correct what the message names. This is told once.",
        )
        alert = Alert(source.source, now, (finding,))
        if untold(alerts, alert, deliver(alerts, alert)):
            memory.tell_again("failure", "configuration")
