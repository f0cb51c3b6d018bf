"""What the audit says of an extraction: started, published, and each try of a phase that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.etl.records import audit
from include.etl.records.audit_check import KEPT
from include.etl.storage import read_json, write_json

if TYPE_CHECKING:
    from include.etl.handover import Plan
    from include.etl.records.manifest import Manifest
    from include.etl.records.run import Run


def started(run: Run, plan: Plan, kind: str) -> None:
    """A run is about to read, or without slices ends here; `kind` says whether by schedule, backfill or hand."""
    facts = {"kind": kind, "window": plan.window.model_dump(mode="json"), "slices": len(plan.slices)}
    line = _record(run, "started", plan.reason, plan.triggered_by, **facts)
    write_json(run.records / KEPT, line)


def published(run: Run, plan: Plan, written: Manifest) -> None:
    """What was published: rows, query and files by their hashes."""
    facts = {"window": plan.window.model_dump(mode="json"), "rows": written.rows.model_dump()}
    files = {file.path: file.sha256 for file in written.files}
    about = facts | {"query_hash": written.query_hash, "files": files}
    write_json(run.records / KEPT, _record(run, "published", plan.reason, plan.triggered_by, **about))


def failed(run: Run, phase: str, facts: dict[str, Any], error: BaseException) -> None:
    """A try of a phase ended with an error; who asked for the run is kept in the record of its plan."""
    planned = run.records / "phase-plan.json"
    if "who" not in facts and planned.exists():
        facts = read_json(planned)
    who, reason = str(facts.get("who", "")), str(facts.get("reason", ""))
    _record(run, "failed", reason, who, phase=phase, error=type(error).__name__)


def _record(run: Run, result: str, reason: str, who: str, **facts: Any) -> audit.Head:
    told = {"dag_id": run.dag_id, "run_id": run.run_id, **facts}
    return audit.record(run.storage, f"extraction {result}", run.source.source, reason, who=who, **told)
