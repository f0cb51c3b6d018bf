"""The watermark of a source: an Airflow Variable that holds JSON a person can read and edit.

It says up to which moment (exclusive, UTC) everything has been published. It moves forward only, after the manifest
is in place, and every version is kept as a file below `data/checkpoints/<source>/`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Protocol

from pydantic import Field, ValidationError

from include.etl.config import Source
from include.etl.errors import CheckpointError
from include.etl.handover import Handover, Moment
from include.etl.storage import Storage, write_json


class Checkpoint(Handover):
    """The JSON in the Variable."""

    source: str
    cursor: str
    bound: Moment = Field(description="Everything before this moment has been published.")
    run_id: str
    updated_at: Moment


class Variables(Protocol):
    """Where checkpoints live; Airflow's Variables in a task."""

    def get(self, key: str) -> str | None:
        """The value, or None where there is none."""

    def set(self, key: str, value: str, description: str) -> None:
        """Store the value."""


class AirflowVariables:
    """Airflow Variables as a task sees them."""

    def get(self, key: str) -> str | None:
        """The value, or None where there is none."""
        from airflow.sdk import Variable

        value: str | None = Variable.get(key, default=None)
        return value

    def set(self, key: str, value: str, description: str) -> None:
        """Store the value."""
        from airflow.sdk import Variable

        Variable.set(key, value, description=description)


def variable_key(source: str) -> str:
    """The Variable's key."""
    return f"checkpoint__{source}"


def read(source: Source, variables: Variables, storage: Storage) -> Checkpoint | None:
    """The source's checkpoint, or None before its first run.

    Raises:
        CheckpointError: the Variable is gone although there was one (Airflow answers the same when it cannot reach
            its database), cannot be understood, or belongs to another source or cursor.
    """
    found = parse(source, variables)
    if found is None and any(storage.folder("checkpoints", source.source).iterdir()):
        raise CheckpointError(
            f"{_cannot(variable_key(source.source))}: it is not there, but this source had one. {_remedy(source)}"
        )
    return found


def parse(source: Source, variables: Variables) -> Checkpoint | None:
    """What the Variable says; None where there is no such Variable. Raises CheckpointError as `read` does."""
    key = variable_key(source.source)
    text = variables.get(key)
    if text is None:
        return None
    try:
        checkpoint = Checkpoint.model_validate_json(text)
    except ValidationError as error:
        issue = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, issue["loc"])) or "the whole value"
        raise CheckpointError(f"{_cannot(key)}: {place}: {issue['msg']}. {_remedy(source)}") from None
    cursor = source.cursor.column if source.cursor else None
    if (checkpoint.source, checkpoint.cursor) != (source.source, cursor):
        raise CheckpointError(
            f"{_cannot(key)}: it is of source {checkpoint.source!r}, cursor {checkpoint.cursor!r}; "
            f"the configuration says {source.source!r}, {cursor!r}. {_remedy(source)}"
        )
    return checkpoint


def advance(source: Source, bound: datetime, run_id: str, variables: Variables, storage: Storage) -> Checkpoint:
    """Move the checkpoint forward to `bound` and keep a copy; one that is already further stays as it is."""
    assert source.cursor is not None
    current = parse(source, variables)
    if current is not None and current.bound >= bound:
        return current
    now = datetime.now(UTC)
    moved = Checkpoint(source=source.source, cursor=source.cursor.column, bound=bound, run_id=run_id, updated_at=now)
    content = moved.model_dump(mode="json")
    description = f"{source.source}: everything before `bound` is published. Edit only to re-extract or to skip."
    variables.set(variable_key(source.source), json.dumps(content, indent=2), description)
    folder = storage.folder("checkpoints", source.source)
    for left in folder.glob(".*.tmp"):  # of a process that was killed right here; no other one writes now
        left.unlink()
    write_json(folder / f"{now:%Y%m%dT%H%M%S.%fZ}.json", content)
    return moved


def _cannot(key: str) -> str:
    return f"checkpoint (Airflow Variable {key!r}) cannot be used"


def _remedy(source: Source) -> str:
    return (
        f"Nothing was read or guessed. Restore the newest file of data/checkpoints/{source.source} as the Variable's "
        "value, or delete the Variable and run with mode full to extract everything again"
    )


def ahead(source: Source, current: Checkpoint, end: datetime) -> CheckpointError:
    """The error for a checkpoint that lies after the end of what a run may read."""
    return CheckpointError(
        f"{_cannot(variable_key(source.source))}: bound {current.bound.isoformat()} lies after {end.isoformat()}, "
        f"the end of this run's window. {_remedy(source)}"
    )
