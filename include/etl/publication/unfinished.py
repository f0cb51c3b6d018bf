"""Finishes publications that were stopped in the middle, so that who lists the folder sees one state again soon."""

from __future__ import annotations

import logging

from include.etl.errors import TransientError
from include.etl.lock import locked
from include.etl.publication import journal
from include.etl.records import audit, manifest
from include.etl.storage import Storage

log = logging.getLogger("etl.publication")


def finish_all(storage: Storage) -> list[str]:
    """Finish each that is certain and has nobody at work on it; the sources whose publication is finished now.

    Raises:
        ExceptionGroup: publications that cannot be finished, after all others have been.
    """
    finished, errors = [], []
    for pending in sorted((storage.root / "staging").glob(f"*/{journal.NAME}")):
        source = pending.parent.name
        try:
            finished += [source] if _finish(storage, source) else []
        except Exception as error:
            log.exception("%s: its publication was stopped, and cannot be finished", source)
            errors.append(error)
    if errors:
        raise ExceptionGroup("some publications cannot be finished", errors)
    return finished


def _finish(storage: Storage, source: str) -> bool:
    folder, staging = manifest.published_folder(storage, source), storage.root / "staging" / source
    try:
        with locked(folder / ".lock", f"source {source!r}: its published data", "finishing a publication", wait_s=0):
            if not (staging / journal.NAME).exists():
                return False
            journal.finish(staging, folder)
            audit.record(storage, "publication finished", source, "it was stopped in the middle")
    except TransientError as busy:
        log.info("%s: left to whoever is at work, or to the next time: %s", source, busy)
        return False
    log.warning("%s: a publication that was stopped in the middle is finished", source)
    return True
