"""Which checkpoint a source goes on from: a backup's, the one that stands, or the newest kept version that is good.

Where none is, it is as far as the publications that stand cover everything.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from include.etl.config import Source
from include.etl.errors import CheckpointError
from include.etl.records import checkpoint
from include.etl.recovery.asked import Asked
from include.etl.recovery.backup import Backup
from include.etl.recovery.damage import find
from include.etl.recovery.spans import reached
from include.etl.storage import Storage

log = logging.getLogger("etl.recovery")
BY = "recovery"


def restore(source: Source, asked: Asked, variables: checkpoint.Variables, storage: Storage) -> tuple[Any, str]:
    """The bound that holds from now on (None: there is none that is good) and where it is from.

    With a backup its checkpoint counts. An earlier bound costs time only; rows are not published twice.

    Raises:
        CheckpointError: something answers in place of the Variable.
    """
    checkpoint.refuse_overridden(source, variables)
    with storage.lock(source.source, "recovery of the checkpoint"):
        before = variables.get(checkpoint.variable_key(source.source))
        for text, origin in _candidates(source, asked.backup, before, storage):
            if (bound := _good(source, text)) is None:
                continue
            if text != before:
                _change(source, storage, before, bound, asked)
                checkpoint.put(source, bound, BY, variables, storage)
            return bound, origin
        if (bound := _covered(source, storage)) is not None:
            _change(source, storage, before, bound, asked)
            checkpoint.put(source, bound, BY, variables, storage)
            return bound, "as far as the publications that stand reach"
        if before is not None:  # a run with mode full would refuse what it cannot understand
            _change(source, storage, before, None, asked)
            checkpoint.remove(source, variables)
        return None, "none is good"


def _candidates(
    source: Source, backup: Backup | None, before: str | None, storage: Storage
) -> Iterator[tuple[str, str]]:
    if backup and (text := backup.checkpoints().get(source.source)):
        yield text, f"backup {backup.name}"
    if before is not None and not backup:
        yield before, "as it was"
    for path in reversed(checkpoint.history(storage, source.source)):
        try:
            yield path.read_text(encoding="utf-8"), f"kept version {path.name}"
        except (OSError, UnicodeDecodeError) as error:
            log.warning("%s: kept version %s cannot be read: %s", source.source, path.name, type(error).__name__)
    if before is not None and backup:
        yield before, "as it was"


def _covered(source: Source, storage: Storage) -> Any:
    """Up to where whole manifests cover everything, if they are of the cursor's kind."""
    bound = reached(find(storage, source.source).standing)
    numbered = source.cursor is not None and source.cursor.numbered
    return bound if isinstance(bound, int) == numbered else None


def _good(source: Source, text: str) -> Any:
    try:
        bound: Any = checkpoint.understood(source, text).bound
    except CheckpointError:
        return None
    return None if isinstance(bound, datetime) and bound > datetime.now(UTC) else bound


def _change(source: Source, storage: Storage, before: str | None, bound: Any, asked: Asked) -> None:
    checkpoint.keep_replaced(storage, source.source, before)
    after = None if bound is None else str(bound)
    asked.record(storage, "checkpoint restore", source.source, before=before, after=after)
