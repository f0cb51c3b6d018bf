"""Whether a run has read an unusual number of rows, by the source's own history of the same weekday."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from include.etl.alerts.base import Finding
from include.etl.config import Source
from include.etl.handover import Window
from include.etl.records import history
from include.etl.storage import Storage

ALIKE = 0.1
"""Windows may differ so much in length and still be compared: writers hold ends back, clocks change in spring."""


def deviation(source: Source, storage: Storage, summary: dict[str, Any]) -> Finding | None:
    """The finding, if the rows of this run differ from the median of earlier ones by more than is usual."""
    window, limit = window_of(summary), source.alerts.row_count_deviation
    if window is None or window.mode == "range" or summary["status"] != "published":
        return None
    usual = _earlier(source, storage, summary, window)[-limit.runs :]
    rows = _rows(summary["phases"])
    if len(usual) < limit.runs or abs(rows - median(usual)) <= median(usual) * limit.percent / 100:
        return None
    middle = median(usual)
    by = f"{(rows - middle) / middle:+.0%}" if middle else "there are usually none"
    return Finding(
        conditions=("row_count_deviation",),
        severity="warning",
        what=f"{rows:,} rows were read, usually it is about {middle:,.0f} ({by})",
        details=(f"the last {len(usual)} runs of this weekday: {', '.join(f'{count:,}' for count in usual)}",),
        to_do="Find out whether there was a holiday, a stop or a mass change. The rows have been published.",
    )


def window_of(summary: dict[str, Any]) -> Window | None:
    """The run's window; None if it did not come so far."""
    found = next((phase["window"] for phase in summary["phases"] if phase.get("window")), None)
    return Window(**found) if found else None


def _rows(phases: Iterable[Mapping[str, Any]]) -> int:
    """The rows that the run has read."""
    return sum(phase["rows"] for phase in phases if phase["phase"] == "extract")


def _earlier(source: Source, storage: Storage, summary: dict[str, Any], window: Window) -> list[int]:
    """Rows of published runs of the same DAG, mode, weekday and length of window, oldest first.

    They are in the history: the records of single runs go after a while, and a monthly source needs years.
    """
    found: dict[datetime, int] = {}
    now = _moment(window, summary["phases"][0])
    for (dag_id, run_id), lines in history.by_run(history.read(storage, source.source)).items():
        last = history.last_tries(lines)
        past = _past_window(last)
        other = dag_id == summary["dag_id"] and run_id != summary["run_id"]
        if past is None or not other or not _published(last):
            continue
        before = _moment(past, lines[0])
        same_day = before.astimezone(source.zone).weekday() == now.astimezone(source.zone).weekday()
        if before < now and same_day and _comparable(past, window):
            found[before] = _rows(last)
    return [rows for _, rows in sorted(found.items())]


def _past_window(lines: Iterable[Mapping[str, Any]]) -> Window | None:
    plan = next((line for line in lines if line["mode"]), None)
    return Window(mode=plan["mode"], start=plan["window_start"], end=plan["window_end"]) if plan else None


def _published(lines: Sequence[Mapping[str, Any]]) -> bool:
    return all(line["outcome"] == "done" for line in lines) and any(line["phase"] == "load" for line in lines)


def _moment(window: Window, first: Mapping[str, Any]) -> datetime:
    """The end of the window; where the cursor is a number, when the run's first phase began."""
    return window.end if isinstance(window.end, datetime) else datetime.fromisoformat(first["started_at"])


def _comparable(past: Window, window: Window) -> bool:
    length, other = _length(window), _length(past)
    alike = length == other if length is None or other is None else abs(length - other) <= ALIKE * length
    return past.mode == window.mode and alike


def _length(window: Window) -> timedelta | None:
    """None from the beginning; all windows of numbers are alike."""
    if window.start is None:
        return None
    if isinstance(window.start, datetime) and isinstance(window.end, datetime):
        return window.end - window.start
    return timedelta(0)
