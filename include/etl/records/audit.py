"""Who changed what by hand, when and why: a line of JSON each in `data/audit/<month>.jsonl`."""

from __future__ import annotations

import getpass
import json
import os
from datetime import UTC, datetime
from typing import Any

from include.etl.errors import StorageError
from include.etl.storage import FILE_MODE, Storage


def record(storage: Storage, action: str, source: str, reason: str = "", **facts: Any) -> None:
    """Add a line, whole or not at all, and wait until it is on the disk; `facts` hold no row values."""
    now = datetime.now(UTC)
    line = {"at": now.isoformat(), "who": _who(), "action": action, "source": source, "reason": reason, **facts}
    path = storage.folder("audit") / f"{now:%Y-%m}.jsonl"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
        try:
            os.fchmod(handle, FILE_MODE)
            os.write(handle, (json.dumps(line, ensure_ascii=False, default=str) + "\n").encode())
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number only
        return f"uid {os.getuid()}"
