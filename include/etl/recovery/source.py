"""One source from whatever is left of it to published data that equal the source."""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from include.etl.config import Source
from include.etl.errors import ConfigurationError, ExtractionError, TransientError
from include.etl.handover import Plan, written
from include.etl.phases.request import Parameters, Trigger
from include.etl.records import checkpoint, manifest
from include.etl.records.manifest import OWN
from include.etl.records.run import Run
from include.etl.recovery import checkpoints, repair
from include.etl.recovery.asked import NUMBER, Asked
from include.etl.recovery.spans import Span, by_windows
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
    whole_rows: int = 0
    """Published rows that were whole; they stay, or a newer version of them."""
    read_again: list[str] = field(default_factory=list)
    rows: int = 0
    left_out: int = 0
    """Rows read that were set aside, or left out by an own transformation."""
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
        """Through the phases of every run; what is published and whole stays, unless it was asked otherwise."""
        parameters = replace(parameters, keep_published=not self.asked.replace, reason=f"recovery: {self.asked.reason}")
        start = "begin" if parameters.from_beginning else parameters.start
        name = "_".join(filter(None, (parameters.mode, start, parameters.end)))
        self.tell(f"{self.source.source}: reading {name.replace('_', ' ')}")
        trigger = Trigger(
            datetime.now(UTC), default_mode=default_mode(self.source), triggered_by=self.asked.by or "recovery"
        )
        result = through_phases(self.run(name), parameters, trigger, self.variables)
        label = result.plan.window.label
        self.done.read_again.append(label if result.published else f"{label}: {_nothing(result.plan)}")
        if result.published:
            rows = result.published.rows
            self.done.rows += rows.extracted
            self.done.left_out += sum(rows.removed.get(why, 0) for why in ("quarantined", OWN))

    def read_span(self, span: Span) -> None:
        """The same, of these cursor values."""
        start = None if span.start is None else written(span.start)
        self.read(Parameters("range", start, written(span.end), from_beginning=span.start is None))


def _recover(work: _Work) -> None:
    source, done = work.source, work.done
    _refuse_other_kind(work)
    bound: Any = None
    if source.cursor:
        bound, origin = checkpoints.restore(source, work.asked, work.variables, work.storage)
        done.checkpoint = f"{bound or 'none'} ({origin})"
    work.tell(f"{source.source}: looking for damage")
    damage, spans = repair.set_aside(work.storage, source, bound, work.asked)
    done.damage = damage.lines
    done.set_aside = f"damaged/{source.source}/{work.asked.stamp}" if damage.lines else None
    done.whole_rows = _standing_rows(work)
    read_again(work, spans)
    if spans is not None or not work.asked.start:  # all that was set aside has been read again
        repair.remember(work.storage, source.source, [])
    done.findings = [asdict(one) | {"verdict": one.verdict} for one in _proven(work)]
    verdicts = {one["verdict"] for one in done.findings}
    done.verdict = next((one for one in ("different", "not checked") if one in verdicts), "recovered")
    done.standing_rows = _standing_rows(work)
    if done.standing_rows + done.left_out < done.whole_rows and not work.asked.replace:
        line = f"{done.whole_rows} published rows were whole, {done.standing_rows} stand now: see what took them out"
        done.findings.append(asdict(Finding("all", [line])) | {"verdict": "different"})
        done.verdict = "different"


def _nothing(plan: Plan) -> str:
    return f"nothing can be read safely yet: {plan.bound.label}" if plan.bound.held else "nothing new to read"


def _refuse_other_kind(work: _Work) -> None:
    """Refuse what is to be read again where it is no value of the source's cursor, before anything is changed."""
    numbered = work.source.cursor is not None and work.source.cursor.numbered
    for name, value in (("start", work.asked.start), ("end", work.asked.end)):
        if value and work.source.cursor and bool(re.fullmatch(NUMBER, value)) != numbered:
            allowed = "a whole number" if numbered else "an ISO date or time"
            raise ConfigurationError(
                f"source {work.source.source!r}: {name}: {value!r}; allowed: {allowed}, since its cursor is one"
            )


def _standing_rows(work: _Work) -> int:
    standing = manifest.current(work.storage, work.source.source)
    return sum(file.rows for one in standing for file in one.files if file.format == one.files[0].format)


def read_again(work: _Work, spans: Sequence[Span] | None) -> None:
    """What was asked for and what is lost; and then all that has come since the checkpoint."""
    asked, source = work.asked, work.source
    if asked.start and source.cursor is not None:
        work.read(Parameters("range", asked.start, asked.end))
    if not by_windows(source):
        if spans is None:
            work.read(Parameters("full"))
        return
    for span in spans or ():
        work.read_span(span)
    standing = manifest.current(work.storage, source.source)
    known = work.variables.get(checkpoint.variable_key(source.source))
    if known is not None and (spans is not None or asked.start):
        work.read(Parameters("incremental"))
    elif not (asked.start and standing):
        everything = Parameters("full") if asked.replace else Parameters("incremental", from_beginning=True)
        work.read(everything)


def _proven(work: _Work) -> list[Finding]:
    """Every publication against its files and the source; what came after it was read is read once more.

    Without a key what has left the source cannot be told from what was changed: a person decides to read that again.
    """
    work.tell(f"{work.source.source}: comparing with the source")
    findings = verify(work.run("verify"), "all")
    different = {one.window for one in findings if one.verdict == "different"}
    if not different or not by_windows(work.source) or not work.source.primary_key:
        return findings
    for one in manifest.current(work.storage, work.source.source):
        if one.window.name in different:
            work.read_span(Span(one.window.read_from, one.window.end))
    return verify(work.run("verify"), "all")
