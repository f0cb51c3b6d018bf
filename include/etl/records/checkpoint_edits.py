"""Notices a checkpoint that was changed in Airflow itself, where no command of ours could note who did it."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from include.etl.config import Source
from include.etl.errors import CheckpointError, StorageError, TransientError
from include.etl.handover import written
from include.etl.lock import locked
from include.etl.records import audit, checkpoint
from include.etl.storage import Storage, read_json, write_json

log = logging.getLogger("etl.plan")
WHO = "unknown: Airflow's own audit log says who"
WHY = "changed in Airflow itself, or by a run that was killed before it kept this version"


def record(source: Source, variables: checkpoint.Variables, storage: Storage) -> None:
    """Note in the audit, once, a checkpoint that is no version that was kept.

    While somebody publishes, who may just be moving it, nothing is compared: the next run does that. One that cannot be
    understood is refused by whoever reads it.

    Raises:
        StorageError: the audit cannot be written.
    """
    path = storage.folder("processed", source.source) / ".lock"
    try:
        with (
            locked(path, f"source {source.source!r}: its published data", "a look at its checkpoint", wait_s=0),
            suppress(CheckpointError),
        ):
            _record(source, variables, storage)
    except TransientError as error:
        log.info("%s: its checkpoint was not compared with the versions that were kept: %s", source.source, error)


def _record(source: Source, variables: checkpoint.Variables, storage: Storage) -> None:
    current, kept = checkpoint.parse(source, variables), checkpoint.history(storage, source.source)
    if current is None or not kept:
        return
    # By the moment that the checkpoint itself names: clocks of workers differ, and the order of names with them.
    folder = storage.folder("checkpoints", source.source)
    mine = [checkpoint.version(folder, ending, current.updated_at) for ending in ("json", "edited")]
    if any(_content(path) == current for path in mine if path.exists()):
        return
    before, now = _content(kept[-1]), written(current.bound)
    facts = {"before": written(before.bound) if before else "cannot be read", "after": now}
    audit.record(storage, "checkpoint edited", source.source, WHY, who=WHO, **facts)
    log.warning("%s: the checkpoint was %s; it says %s", source.source, WHY, now)
    write_json(mine[-1], current.model_dump(mode="json"))


def _content(path: Path) -> checkpoint.Checkpoint | None:
    """A kept version; None where it is damaged, which stops no run: the Variable is what counts."""
    try:
        return checkpoint.Checkpoint.model_validate(read_json(path))
    except (StorageError, ValidationError):
        log.warning("file %s, a kept version of a checkpoint, cannot be read", path)
        return None
