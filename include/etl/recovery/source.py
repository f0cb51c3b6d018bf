"""One source from whatever is left of it to published data that equal the source."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from include.etl.config import Source
from include.etl.errors import ExtractionError, TransientError
from include.etl.phases.request import Parameters, Trigger
from include.etl.records import checkpoint, manifest
from include.etl.records.run import Run
from include.etl.recovery import checkpoints, repair
from include.etl.recovery.asked import Asked
from include.etl.recovery.damage import Span
from include.etl.run import default_mode, through_phases
from include.etl.storage import Storage
from include.etl.verify import Finding, verify

log = logging.getLogger("etl.recovery")
Tell = Callable[[str], None]


@dataclass
class Recovered:
    """What was found and done for one source; no row value is in it."""

    source: str
    checkpoint: str = ""
    damage: list[str] = field(default_factory=list)
    set_aside: str | None = None
    read_again: list[str] = field(default_factory=list)
    rows: int = 0
    standing_rows: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)
    verdict: str = "failed"
    error: str | None = None
    transient: bool = False
    """The error may pass by itself."""
    seconds: float = 0.0


def recover(source: Source, asked: Asked, storage: Storage, variables: checkpoint.Variables, tell: Tell) -> Recovered:
    """Checkpoint, damage, reading again, up to now, verification. A failure is in the result, with what was done."""
    done, started = Recovered(source.source), time.monotonic()
    try:
        asked.record(storage, "recovery", source.source, start=asked.start, end=asked.end)
        _recover(_Work(source, asked, storage, variables, tell, done))
    except ExtractionError as error:
        done.error, done.transient = f"{type(error).__name__}: {error}", isinstance(error, TransientError)
    except Exception as error:  # noqa: BLE001 - the report must be written; a foreign message may carry row data
        last = traceback.extract_tb(error.__traceback__)[-1]
        done.error = f"unexpected {type(error).__name__} at {last.filename}:{last.lineno}"
    done.seconds = round(time.monotonic() - started, 1)
    asked.record(storage, "recovery ended", source.source, verdict=done.verdict, rows=done.rows)
    return done


@dataclass
class _Work:
    source: Source
    asked: Asked
    storage: Storage
    variables: checkpoint.Variables
    tell: Tell
    done: Recovered

    def run(self, name: str) -> Run:
        """A run of its own for each reading: the same asked for again by a retry gets the same window."""
        return Run(self.source, f"recovery__{self.asked.stamp}__{name}", self.storage, "recovery")

    def read(self, parameters: Parameters) -> None:
        """Through the phases of every run."""
        name = "_".join(filter(None, (parameters.mode, parameters.start, parameters.end)))
        self.tell(f"{self.source.source}: reading {name.replace('_', ' ')}")
        trigger = Trigger(
            datetime.now(UTC), default_mode=default_mode(self.source), triggered_by=self.asked.by or "recovery"
        )
        result = through_phases(self.run(name), parameters, trigger, self.variables)
        self.done.read_again.append(result.plan.window.label)
        if result.published:
            self.done.rows += result.published.rows.extracted


def _recover(work: _Work) -> None:
    source, done = work.source, work.done
    bound: Any = None
    if source.cursor:
        bound, origin = checkpoints.restore(source, work.asked, work.variables, work.storage)
        done.checkpoint = f"{bound or 'none'} ({origin})"
    work.tell(f"{source.source}: looking for damage")
    damage, spans = repair.set_aside(work.storage, source, bound, work.asked)
    done.damage = damage.lines
    done.set_aside = f"damaged/{source.source}/{work.asked.stamp}" if damage.lines else None
    read_again(work, spans)
    if spans is not None or not work.asked.start:  # all that was set aside has been read again
        repair.remember(work.storage, source.source, [])
    done.findings = [asdict(one) | {"verdict": one.verdict} for one in _proven(work)]
    verdicts = {one["verdict"] for one in done.findings}
    done.verdict = next((one for one in ("different", "not checked") if one in verdicts), "recovered")
    standing = manifest.current(work.storage, source.source)
    done.standing_rows = sum(file.rows for one in standing for file in one.files if file.format == one.files[0].format)


def read_again(work: _Work, spans: Sequence[Span] | None) -> None:
    """What was asked for and what is lost; and then all that has come since the checkpoint."""
    asked, reason = work.asked, f"recovery: {work.asked.reason}"
    if work.source.cursor is None or (spans is None and not asked.start):
        work.read(Parameters("full", reason=reason))
        return
    wanted = [(asked.start, asked.end)] if asked.start else []
    for start, end in (*wanted, *(_text(span) for span in spans or ())):
        work.read(Parameters("range", start, end, reason=reason))
    standing = manifest.current(work.storage, work.source.source)
    known = work.variables.get(checkpoint.variable_key(work.source.source))
    if known is None and not (asked.start and standing):
        work.read(Parameters("full", reason=reason))
    elif known is not None and work.source.schedule.incremental:
        work.read(Parameters("incremental", reason=reason))


def _text(span: Span) -> tuple[str, str]:
    return span.start.isoformat(), span.end.isoformat()


def _proven(work: _Work) -> list[Finding]:
    """Every publication against its files and the source; what came after it was read is read once more."""
    work.tell(f"{work.source.source}: comparing with the source")
    findings = verify(work.run("verify"), "all")
    different = {one.window for one in findings if one.verdict == "different"}
    if not different or work.source.cursor is None:
        return findings
    for one in manifest.current(work.storage, work.source.source):
        window = one.window
        if window.name in different and not isinstance(window.read_from, datetime):
            work.read(Parameters("full", reason=f"recovery: {work.asked.reason}"))
            break
        if window.name in different and isinstance(window.read_from, datetime) and isinstance(window.end, datetime):
            span = Span(window.read_from, window.end)
            work.read(Parameters("range", *_text(span), reason=f"recovery: {work.asked.reason}"))
    return verify(work.run("verify"), "all")
