"""The watermark of a source: an Airflow Variable that holds JSON a person can read and edit.

It says up to which moment (exclusive, UTC) everything has been published. Runs move it forward only, after the manifest
is in place, and from no place but the one where they began to read. Every version is kept as a file below
`data/checkpoints/<source>/`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field, ValidationError, field_validator

from include.etl.config import Source, include_folder
from include.etl.errors import CheckpointError, StorageError
from include.etl.handover import Handover, Moment, Position, Window, written
from include.etl.names import published_name
from include.etl.records import manifest
from include.etl.records.overrides import override, suspects
from include.etl.storage import FILE_MODE, Storage, read_json, write_json

CLOCKS = timedelta(minutes=10)
"""By how much clocks may ordinarily differ: after a failover, or where a replica is read from now on."""


class Checkpoint(Handover):
    """The JSON in the Variable."""

    source: str
    cursor: str
    bound: Position = Field(description="Everything before this moment, or number, has been published.")
    run_id: str
    updated_at: Moment

    @field_validator("bound", "updated_at", mode="wrap")
    @classmethod
    def _written_out(cls, value: Any, parse: Callable[[Any], Any]) -> Any:
        """A number in quotes, or with a point, would be taken for seconds since 1970."""
        parsed = parse(value)
        if isinstance(parsed, datetime) and not re.match(r"\d{4}-\d{2}-\d{2}", str(value)):
            raise ValueError("a moment such as 2024-03-09T18:00:00Z")
        return parsed


class Variables(Protocol):
    """Where checkpoints live; Airflow's Variables in a task."""

    def get(self, key: str) -> str | None:
        """The value, or None where there is none."""

    def set(self, key: str, value: str, description: str) -> None:
        """Store the value."""

    def delete(self, key: str) -> None:
        """Remove the value."""

    def overridden_by(self, key: str) -> str:
        """What answers in place of what is stored, by its name; empty where nothing does."""


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

    def delete(self, key: str) -> None:
        """Remove the value."""
        from airflow.sdk import Variable

        Variable.delete(key)

    def overridden_by(self, key: str) -> str:
        """What answers in place of what is stored, by its name; empty where nothing does."""
        return override(key)


def variable_key(source: str) -> str:
    """The Variable's key."""
    return f"checkpoint__{source}"


def read(source: Source, variables: Variables, storage: Storage) -> Checkpoint | None:
    """The source's checkpoint, or None before its first run.

    Raises:
        CheckpointError: the Variable is gone although there was one (Airflow answers the same when it cannot reach
            its database), cannot be understood, is not what was stored, or belongs to another source or cursor; or the
            source has none, but looks like one that had another name.
    """
    found = parse(source, variables)
    if found is None and any(storage.folder("checkpoints", source.source).iterdir()):
        raise CheckpointError(
            f"{_cannot(variable_key(source.source))}: it is not there, but this source had one. {_remedy(source)}"
        )
    if found is None and (old := _earlier_name(source, storage)):
        raise CheckpointError(
            f"source {source.source!r} has no checkpoint, but {old!r}, which include/sources has no longer, published "
            f"rows of the same key and cursor. If it was renamed, give it its old name back, or run once with mode "
            f"full, which reads everything under the new name, and then move data/processed/{old} away"
        )
    return found


def _earlier_name(source: Source, storage: Storage) -> str | None:
    """A source that is not configured any more and has published rows with this one's key, cursor and partitions."""
    assert source.cursor is not None
    mine = ([published_name(source, column) for column in source.primary_key], source.output.partition_by)
    cursor = published_name(source, source.cursor.column)
    for folder in sorted((storage.root / "processed").glob("*") if mine[0] else ()):
        if (include_folder() / "sources" / f"{folder.name}.yaml").exists():
            continue
        try:
            found = manifest.current(storage, folder.name)
        except StorageError:
            continue  # whatever it is, it is not this source's
        if found and (found[-1].key, found[-1].partition_by, found[-1].cursor) == (*mine, cursor):
            return folder.name
    return None


def parse(source: Source, variables: Variables) -> Checkpoint | None:
    """What the Variable says; None where there is no such Variable. Raises CheckpointError as `read` does."""
    refuse_overridden(source, variables)
    text = variables.get(variable_key(source.source))
    return None if text is None else understood(source, text)


def refuse_overridden(source: Source, variables: Variables) -> None:
    """Raise CheckpointError where something answers in place of the Variable: every run would begin where it says."""
    key = variable_key(source.source)
    if found := variables.overridden_by(key):
        raise CheckpointError(_overridden(source, found))


def _overridden(source: Source, by: str) -> str:
    return (
        f"{_cannot(variable_key(source.source))}: {by} answers in its place, and cannot be moved, so every run would "
        f"begin at the same place. Remove it there; then look at python scripts/checkpoints.py show {source.source}"
    )


def understood(source: Source, text: str) -> Checkpoint:
    """The checkpoint that this text is. Raises CheckpointError as `read` does."""
    key = variable_key(source.source)
    try:
        checkpoint = Checkpoint.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        issue = next(one for one in reversed(found) if one["loc"][:1] == found[0]["loc"][:1])  # the last kind tried
        place = str(issue["loc"][0]) if issue["loc"] else "the whole value"
        raise CheckpointError(f"{_cannot(key)}: {place}: {issue['msg']}. {_remedy(source)}") from None
    numbered = source.cursor is not None and source.cursor.numbered
    if isinstance(checkpoint.bound, int) != numbered:
        allowed = "a number such as 4711" if numbered else "a moment such as 2024-03-09T18:00:00Z"
        raise CheckpointError(f"{_cannot(key)}: bound: {allowed}, as cursor.type says. {_remedy(source)}")
    cursor = source.cursor.column if source.cursor else None
    if (checkpoint.source, checkpoint.cursor) != (source.source, cursor):
        raise CheckpointError(
            f"{_cannot(key)}: it is of source {checkpoint.source!r}, cursor {checkpoint.cursor!r}; "
            f"the configuration says {source.source!r}, {cursor!r}. {_remedy(source)}"
        )
    return checkpoint


def advance(source: Source, window: Window, run_id: str, variables: Variables, storage: Storage) -> Checkpoint | None:
    """Move it forward to the window's end and keep a copy; one that is already further stays as it is.

    So does one that somebody has set back to before the window, or deleted, while it was read: the window says nothing
    of what lies before its start.
    """
    current = parse(source, variables)
    if current is not None and current.bound >= window.end:  # type: ignore[operator]
        keep(current, storage)  # the process that moved it may have been killed before it kept a copy
        return current
    if not follows(window, current):
        return current
    return put(source, window.end, run_id, variables, storage)


def follows(window: Window, current: Checkpoint | None) -> bool:
    """Whether everything before the window's start has been published, as far as the checkpoint says."""
    return window.start is None or (current is not None and current.bound >= window.start)  # type: ignore[operator]


def put(source: Source, bound: Any, run_id: str, variables: Variables, storage: Storage) -> Checkpoint:
    """Make `bound` the checkpoint, whatever it was, and keep a copy. The caller holds the source's lock.

    Raises:
        CheckpointError: a run would read another one than was written.
    """
    assert source.cursor is not None
    now = datetime.now(UTC)
    moved = Checkpoint(source=source.source, cursor=source.cursor.column, bound=bound, run_id=run_id, updated_at=now)
    content = moved.model_dump(mode="json")
    description = f"{source.source}: everything before `bound` is published. Edit only to re-extract or to skip."
    text = json.dumps(content, indent=2)
    variables.set(variable_key(source.source), text, description)
    _read_back(source, text, f"bound {written(bound)}", variables)
    keep(moved, storage)
    return moved


def remove(source: Source, variables: Variables) -> None:
    """Delete the checkpoint. Raises CheckpointError where a run would read one all the same."""
    variables.delete(variable_key(source.source))
    _read_back(source, None, "none", variables)


def _read_back(source: Source, expected: str | None, told: str, variables: Variables) -> None:
    """Raise CheckpointError where a run does not read what was written, with what answers in its place."""
    key = variable_key(source.source)
    found = variables.get(key)
    if found == expected:
        return
    what = f"stored was {told}; read back was {_bound_in(found)}"
    if found is None:
        raise CheckpointError(f"{_cannot(key)}: {what}: Airflow's database did not keep it, or does not answer")
    by = variables.overridden_by(key) or f"something else, such as {suspects(key)},"
    raise CheckpointError(f"{_overridden(source, by)}; {what}")


def _bound_in(text: str | None) -> str:
    """The bound of a checkpoint, and nothing else of a text that may be anybody's."""
    if text is None:
        return "none"
    try:
        return f"bound {written(Checkpoint.model_validate_json(text).bound)}"
    except ValidationError:
        return "no checkpoint"


def version(folder: Path, ending: str, at: datetime | None = None) -> Path:
    """The file of a version that is of this moment, now by default; names sort as the moments do."""
    return folder / f"{at or datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.{ending}"


def keep(kept: Checkpoint, storage: Storage) -> None:
    """Keep a copy of a checkpoint, once. The caller holds the source's lock."""
    folder = storage.folder("checkpoints", kept.source)
    for left in folder.glob(".*.tmp"):  # of a process that was killed right here; no other one writes now
        left.unlink()
    path, content = version(folder, "json", kept.updated_at), kept.model_dump(mode="json")
    if not path.exists():
        write_json(path, content)
        if read_json(path) != content:
            path.unlink()
            raise StorageError(
                f"file {path}: it did not hold the checkpoint that was written; it is moved all the same"
            )


def history(storage: Storage, source: str) -> list[Path]:
    """The kept versions, oldest first."""
    return sorted(path for path in storage.folder("checkpoints", source).glob("*.json") if path.name[0] != ".")


def keep_replaced(storage: Storage, source: str, text: str | None) -> None:
    """Keep what somebody replaces, also what cannot be understood, word by word."""
    if text is not None:
        path = version(storage.folder("checkpoints", source), "replaced")
        path.write_text(text, encoding="utf-8")
        path.chmod(FILE_MODE)


def _cannot(key: str) -> str:
    return f"checkpoint (Airflow Variable {key!r}) cannot be used"


def _remedy(source: Source) -> str:
    return (
        f"Nothing was read or guessed. Restore it: python scripts/checkpoints.py restore {source.source}; or begin "
        f"again: python scripts/checkpoints.py reset {source.source}, then a run with mode full"
    )


def refuse_ahead(source: Source, current: Checkpoint | None, now: datetime) -> None:
    """Raise CheckpointError for a moment of the future: rows would be skipped, night after night, in silence."""
    if current is not None and isinstance(current.bound, datetime) and current.bound > now + CLOCKS:
        raise ahead(source, current.bound, now)


def ahead(source: Source, bound: Position, reached: Position) -> CheckpointError:
    """The error for a checkpoint beyond what the source has reached by now."""
    return CheckpointError(
        f"{_cannot(variable_key(source.source))}: bound {written(bound)} lies after {written(reached)}, "
        f"which is as far as the source is by now. {_remedy(source)}"
    )
