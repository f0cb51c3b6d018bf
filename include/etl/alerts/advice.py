"""What to do about an error, in plain words, by its group in `errors.py`."""

from __future__ import annotations

from include.etl import errors

_BY_REASON = {
    "timed_out": "Find out in the task's log what it waited for, then clear the run.",
    "all_tasks_deadlocked": "Clear the run; if it happens again, ask whoever changed the DAG.",
}
_BY_KIND: list[tuple[type[Exception], str]] = [
    (errors.CheckpointError, "Look at it with `python scripts/checkpoints.py show <source>`; see docs/recover.md."),
    (errors.ConfigurationError, "Correct what the message names, then clear the run; see docs/recover.md."),
    (errors.WriterTooOld, "Ask the database's administrator to end the session that is named, then clear the run."),
    (errors.TransientError, "Wait until the database answers, then clear the failed task; the next run reads on too."),
    (errors.SchemaChanged, "Compare the columns with the source's owner; see docs/schema-changes.md."),
    (errors.ValidationFailed, "Open the validation report, have the data corrected, then clear the run."),
    (errors.DataError, "Look at the data that the message names, then clear the run; see docs/recover.md."),
    (errors.StorageError, "Make room or repair the data folder, then clear the failed task."),
]
UNKNOWN = "Open the failed task's log, its last line says why; then see docs/recover.md."


def advice(kind: str, reason: str = "") -> str:
    """What to do about the error with this class name, or this reason of Airflow's."""
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    found = getattr(errors, kind, None) if kind else None
    return next((text for group, text in _BY_KIND if found and issubclass(found, group)), UNKNOWN)
