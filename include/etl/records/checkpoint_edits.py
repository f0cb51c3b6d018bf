"""Notices a checkpoint that was changed in Airflow itself, where no command of ours could note who did it."""

from __future__ import annotations

import logging
from contextlib import suppress

from include.etl.config import Source
from include.etl.errors import CheckpointError, StorageError, TransientError
from include.etl.handover import written
from include.etl.lock import locked
from include.etl.records import audit, checkpoint
from include.etl.storage import Storage, read_json, write_json

log = logging.getLogger("etl.plan")
WHY = "changed in Airflow itself, or by a run that was killed before it kept this version"


def record(source: Source, variables: checkpoint.Variables, storage: Storage) -> None:
    """Note in the audit, once, a checkpoint that is not the version that was kept last.

    While somebody publishes, who may just be moving it, nothing is compared: the next run does that. One that cannot be
    understood is refused by whoever reads it.
    """
    path = storage.folder("processed", source.source) / ".lock"
    try:
        with (
            locked(path, f"source {source.source!r}: its published data", "a look at its checkpoint", wait_s=0),
            suppress(CheckpointError),
        ):
            _record(source, variables, storage)
    except (StorageError, TransientError) as error:
        log.info("%s: its checkpoint was not compared with the version kept last: %s", source.source, error)


def _record(source: Source, variables: checkpoint.Variables, storage: Storage) -> None:
    current, folder = checkpoint.parse(source, variables), storage.folder("checkpoints", source.source)
    known = sorted(path for ending in ("json", "edited") for path in folder.glob(f"[0-9]*.{ending}"))
    if current is None or not known:
        return
    content, last = current.model_dump(mode="json"), read_json(known[-1])
    if content == last:
        return
    now = written(current.bound)
    audit.record(storage, "checkpoint edited", source.source, WHY, before=str(last.get("bound")), after=now)
    log.warning("%s: the checkpoint was %s; it says %s", source.source, WHY, now)
    write_json(checkpoint.version(folder, "edited"), content)
