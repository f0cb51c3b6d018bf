"""What `make demo` shows: progress while runs work, the table at the end, and why a run failed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from include.etl.records.manifest import Manifest

PHASES = ("plan", "extract", "validate", "transform", "load")
WARNING = "[warning] "


@dataclass(frozen=True)
class Outcome:
    """How one source's run ended: it has published, has problems, or has found nothing to read."""

    source: str
    seconds: float
    publication: Manifest | None = None
    manifest: Path | None = None
    problems: Sequence[str] = field(default_factory=list)


class Screen:
    """A bar for each source on a terminal; lines elsewhere, one whenever something has changed."""

    def __init__(self, console: Console) -> None:
        self._console, self._started = console, time.monotonic()
        columns = (TextColumn("{task.description:<22}"), BarColumn(20), TextColumn("{task.fields[now]:<28}"))
        self._progress = Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal)
        self._bars: dict[str, TaskID] = {}
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def step(self, text: str) -> None:
        """Something that is not a run: making data, starting and stopping Airflow."""
        self._console.print(f"[dim]{self._clock()}[/dim] {text}", highlight=False)

    def show(self, source: str, instances: Sequence[dict[str, Any]]) -> None:
        """Where a run is, from its task instances."""
        done = [phase for phase in PHASES if _states(instances, phase) == {"success"}]
        failed = next((phase for phase in PHASES if "failed" in _states(instances, phase)), None)
        rest = [phase for phase in PHASES if phase not in done]
        now = f"{failed} failed" if failed else rest[0] if rest else "published"
        if self._shown.get(source) == now:
            return
        self._shown[source] = now
        if not self._console.is_terminal:
            self.step(f"{source}: {now}")
        if source not in self._bars:
            self._bars[source] = self._progress.add_task(source, total=len(PHASES), now=now)
        bar = self._bars[source]
        self._progress.update(bar, completed=len(done), now=now)
        if failed or not rest:
            self._progress.stop_task(bar)

    def _clock(self) -> str:
        return f"{time.monotonic() - self._started:4.0f} s"


def _states(instances: Sequence[dict[str, Any]], phase: str) -> set[str]:
    return {str(instance["state"]) for instance in instances if instance["task_id"] == phase}


def print_outcomes(console: Console, outcomes: Sequence[Outcome], folder: Path) -> None:
    """The table of what was published, then what each run has to say. Paths are relative to `folder`."""
    table = Table(title="What the runs published", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    for name in ("source", "window (UTC)"):
        table.add_column(name)
    for name in ("extracted", "rejected", "published", "files", "time"):
        table.add_column(name, justify="right")
    for outcome in outcomes:
        table.add_row(*_cells(outcome))
    console.print(table)
    for outcome in outcomes:
        console.print(Text(f"{outcome.source}: {headline(outcome)}", style="red" if outcome.problems else "bold"))
        for line in _details(outcome, folder):
            console.print(Text(f"    {line}"), soft_wrap=True)


def headline(outcome: Outcome) -> str:
    """One sentence: what is new."""
    done = outcome.publication
    if done is None:
        return "failed" if outcome.problems else "nothing to read yet"
    new = done.rows.published
    if done.window.mode == "full":
        return f"{new:,} rows, read in full"
    if done.window.start is None:
        return f"{new:,} rows, everything there was"
    return f"{new:,} new or changed rows since the last run" if new else "nothing new since the last run"


def _cells(outcome: Outcome) -> list[str]:
    done = outcome.publication
    if done is None:
        told = "[red]failed[/red]" if outcome.problems else "none"
        return [outcome.source, "", "", "", told, "", f"{outcome.seconds:.0f} s"]
    start = f"{done.window.start:%Y-%m-%d %H:%M}" if done.window.start else "the beginning"
    window = f"{start}\n{done.window.end:%Y-%m-%d %H:%M}"
    numbers = (done.rows.extracted, sum(done.rows.removed.values()), done.rows.published, len(done.files))
    return [outcome.source, window, *(f"{number:,}" for number in numbers), f"{outcome.seconds:.0f} s"]


def _details(outcome: Outcome, folder: Path) -> list[str]:
    done, path = outcome.publication, outcome.manifest
    if done is None or path is None:
        return list(outcome.problems)
    lines = [f"rejected: {count:,} {why}" for why, count in done.rows.removed.items()]
    lines += [f"warning:  {text.removeprefix(WARNING)}" for text in done.validation.get("warnings", [])]
    lines += [f"files:    {_shown(path.parents[1], folder)}", f"manifest: {_shown(path, folder)}"]
    if report := done.validation.get("report"):
        lines.append(f"report:   {_shown(path.parents[3] / report, folder)}")
    return lines


def _shown(path: Path, folder: Path) -> Path:
    return path.relative_to(folder) if path.is_relative_to(folder) else path
