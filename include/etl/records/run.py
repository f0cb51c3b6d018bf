"""The record of one run: what each phase did and cost, and a summary of it all, kept beside the data."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.etl.config import Source
from include.etl.errors import ExtractionError, StorageError
from include.etl.handover import Metrics
from include.etl.lock import left_by, locked
from include.etl.records import extraction_audit, history, logs, metrics
from include.etl.storage import Storage, read_json, run_key, write_json

log = logging.getLogger("etl.run")
PHASES = ("plan", "extract", "validate", "transform", "load")


@dataclass(frozen=True)
class Run:
    """One run of one source: what every phase needs to know about where it is."""

    source: Source
    run_id: str
    storage: Storage
    dag_id: str = "by hand"

    @property
    def key(self) -> str:
        """The run's folder name."""
        return run_key(self.dag_id, self.run_id)

    @property
    def records(self) -> Path:
        """Folder of this run's own records."""
        return self.storage.folder("runs", self.source.source, self.key)


@dataclass
class Counter:
    """Filled in by a phase while it works."""

    rows: int = 0
    bytes: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


@contextmanager
def measured(run: Run, phase: str, part: str = "") -> Iterator[Counter]:
    """Measure a phase; record and log it whether it succeeds or fails, and bring the run's summary up to date."""
    about = {"source": run.source.source, "dag_id": run.dag_id, "run_id": run.run_id, "phase": f"{phase}{part}"}
    with _at_work(run, f"{phase}{part}"), logs.kept(run.storage, about):
        yield from _measured(run, phase, part, about)


@contextmanager
def _at_work(run: Run, name: str) -> Iterator[None]:
    """Tells that a process works on this; an earlier try that was given up but still works would write the same files.

    Raises:
        TransientError: there is such a process.
    """
    path, what = run.records / f".{name}.lock", f"{name} of run {run.run_id} of source {run.source.source!r}"
    with ExitStack() as stack:
        with gate(run.storage, run.source.source, what, shared=True):  # while the run's old files are deleted
            stack.enter_context(locked(path, what, "an earlier try", wait_s=0))
        yield


@contextmanager
def gate(
    storage: Storage, source: str, holder: str, *, shared: bool = False, wait_s: float | None = None
) -> Iterator[None]:
    """No task of the source begins while somebody holds this; those at work go on, and hold locks of their own."""
    path = storage.folder("runs", source) / ".gate.lock"
    with locked(path, f"source {source!r}: its runs' files", holder, shared=shared, wait_s=wait_s):
        yield


def _measured(run: Run, phase: str, part: str, about: dict[str, str]) -> Iterator[Counter]:
    counter, started = Counter(), datetime.now(UTC)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    _reset_peak_memory()
    error: BaseException | None = None
    try:
        yield counter
    except BaseException as raised:
        error = raised
        raise
    finally:
        measures = Metrics(
            phase=phase,
            rows=counter.rows,
            bytes=counter.bytes,
            seconds=round(time.perf_counter() - wall, 3),
            cpu_seconds=round(_cpu_seconds() - cpu, 3),
            peak_memory_mb=_peak_memory_mb(),
        )
        try:
            _record(run, part, measures, started, counter.facts, error)
            logs.phase_ended(run.storage, about, measures, error)
            if error is not None:
                extraction_audit.failed(run, about["phase"], counter.facts, error)
        except StorageError:
            if error is None:
                raise
            log.exception("%s %s: no record could be written", phase, run.source.source)  # the first error counts


def summary(run: Run) -> dict[str, Any]:
    """The run so far: each phase's metrics and facts, and whether it is running, failed or published."""
    phases = [read_json(path) for path in sorted(run.records.glob("phase-*.json"))]
    phases.sort(key=lambda phase: (PHASES.index(phase["phase"]), phase["started_at"]))
    failed = [phase for phase in phases if phase["error"]]
    done = max(phases, key=lambda phase: phase["started_at"], default={"phase": "plan"})["phase"] == "load"
    nothing = any(phase["phase"] == "plan" and phase.get("slices") == 0 for phase in phases)
    return {
        "source": run.source.source,
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "status": "failed" if failed else "published" if done else "nothing to read yet" if nothing else "running",
        "seconds": round(sum(phase["seconds"] for phase in phases), 3),
        "phases": phases,
    }


def begin_anew(run: Run) -> None:
    """Forget what an earlier try of a run that was cleared had recorded; it may have had more slices."""
    for path in run.records.glob("phase-*.json"):
        path.unlink(missing_ok=True)


def close_interrupted(run: Run) -> None:
    """Say `interrupted` in the summaries of the source's other runs that have not ended and that nobody works on.

    A process that was killed cannot do it itself. A run that is only between two tasks says how it goes with the next.
    """
    for path in (run.storage.root / "runs" / run.source.source).glob("*/summary.json"):
        if path.parent.name == run.key:
            continue
        try:
            _close(path)
        except (OSError, StorageError):
            log.exception("%s: the summary of an earlier run could not be closed", run.source.source)


def _close(path: Path) -> None:
    content = read_json(path)
    locks = {lock.name[1:-5]: left_by(lock) for lock in path.parent.glob(".*.lock")}
    if content["status"] == "running" and None not in locks.values():
        killed = {phase: who for phase, who in locks.items() if who}
        write_json(path, content | {"status": "interrupted", "killed_in": killed})
        log.warning(
            "%s: run %s did not end%s", content["source"], content["run_id"], f"; killed in {killed}" * bool(killed)
        )


def _record(
    run: Run, part: str, measures: Metrics, started: datetime, facts: dict[str, Any], error: BaseException | None
) -> None:
    name = f"{measures.phase}{part}"
    content = measures.model_dump() | {
        "rows_per_second": measures.rows_per_second,
        "started_at": started.isoformat(),
        "error": type(error).__name__ if error else None,
        # The text of our own errors holds no values and no secrets; that of others may.
        "error_message": str(error) if isinstance(error, ExtractionError) else None,
        **facts,
    }
    write_json(run.records / f"phase-{name}.json", content)
    with locked(run.records / ".summary.lock", "the run's summary", name):  # slices end at the same moment
        write_json(run.records / "summary.json", summary(run))
    log.info(
        "%s %s: %s rows=%d bytes=%d seconds=%.2f rows/s=%.0f peak_memory_mb=%.0f cpu_seconds=%.2f",
        measures.phase,
        run.source.source,
        "failed" if error else "done",
        measures.rows,
        measures.bytes,
        measures.seconds,
        measures.rows_per_second,
        measures.peak_memory_mb,
        measures.cpu_seconds,
    )
    history.append(run, content, part)
    metrics.emit(run.source.source, run.dag_id, content)


def _cpu_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def _reset_peak_memory() -> None:
    """Start the peak anew for this phase where the kernel can (Linux, proc(5): 5 resets VmHWM)."""
    if sys.platform == "linux":
        with suppress(OSError):  # hardened containers forbid it; the peak is then that of the process so far
            Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mb() -> float:
    """Peak resident memory in MiB: of the phase on Linux, of the process elsewhere."""
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20), 1)
