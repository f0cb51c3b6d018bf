"""What a recovery would find and do for a source; changes nothing."""

from __future__ import annotations

from typing import Any

from include.etl.config import Source
from include.etl.errors import CheckpointError
from include.etl.records import checkpoint
from include.etl.recovery import damage
from include.etl.recovery.spans import to_read_again
from include.etl.storage import Storage


def check(source: Source, storage: Storage, variables: checkpoint.Variables) -> dict[str, Any]:
    """Checkpoint, damage and what would be read again, beside the rows that have come since the checkpoint."""
    bound, told = None, "none is needed"
    if source.cursor:
        try:
            found = checkpoint.read(source, variables, storage)
            bound, told = (found.bound, str(found.bound)) if found else (None, "none")
        except CheckpointError as error:
            told = f"cannot be used: {error}"
    with storage.lock(source.source, "recovery check", shared=True):
        spoilt = damage.find(storage, source.source)
        spans = to_read_again(storage, source, spoilt, bound)
    return {
        "source": source.source,
        "good": not spoilt.lines and spans == [] and "cannot" not in told,
        "checkpoint": told,
        "damage": spoilt.lines,
        "read_again": ["everything"] if spans is None else [span.label for span in spans],
    }
