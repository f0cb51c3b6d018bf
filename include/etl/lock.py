"""Locks between processes that share the data folder, with the name of the holder for those who wait.

They are the operating system's (flock): a process that dies, in whatever way, gives them back at once. On a network
file system they reach other machines only if it carries locks: NFS 4 does, unless it is mounted `nolock` or
`local_lock=flock`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from include.etl.errors import StorageError, TransientError

log = logging.getLogger("etl.lock")
WAIT_S = 1800.0
"""How long a publication is waited for. Most take seconds; one that takes longer is worth a look."""
TOLD_EVERY_S = 60.0


@contextmanager
def locked(path: Path, what: str, holder: str, *, shared: bool = False, wait_s: float | None = None) -> Iterator[None]:
    """Hold the lock of this file; `what` and `holder` are for the messages of those who find it taken.

    Raises:
        TransientError: another process held it until the end of `wait_s` (WAIT_S by default); says who and since when.
    """
    try:
        path.touch(mode=0o640)
        handle = path.open("r+b", buffering=0)
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error
    with handle:
        _acquire(handle, path, what, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, WAIT_S if wait_s is None else wait_s)
        if shared:
            yield
            return
        _write(handle, json.dumps({"holder": holder, **_here(), "since": datetime.now(UTC).isoformat()}))
        try:
            yield
        finally:
            _write(handle, "")


def left_by(path: Path) -> str | None:
    """Who held the lock when it died; empty if its last holder ended in order, None if somebody holds it now."""
    with path.open("rb", buffering=0) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return _read(handle)


def _acquire(handle: IO[bytes], path: Path, what: str, kind: int, wait_s: float) -> None:
    started, told = time.monotonic(), -TOLD_EVERY_S
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited = time.monotonic() - started
        except OSError as error:
            raise StorageError(f"file {path}: this file system has no locks (flock): {error.strerror}") from error
        if waited >= wait_s:
            raise TransientError(
                f"{what} is in use by {_read(handle) or 'a reader'}; waited {waited:.0f} s. Let it end, or end it if "
                "it hangs, then clear this task"
            )
        if waited - told >= TOLD_EVERY_S:
            log.warning("%s is in use by %s; waiting, %.0f of at most %.0f s", what, _read(handle), waited, wait_s)
            told = waited
        time.sleep(min(0.2, wait_s))


def _here() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _read(handle: IO[bytes]) -> str:
    """The holder in words; it may be writing its name at this very moment."""
    handle.seek(0)
    try:
        found = json.loads(handle.read() or b"{}")
        return f"{found['holder']} (process {found['pid']} on {found['host']}, since {found['since']})" if found else ""
    except (ValueError, KeyError, TypeError):
        return "another process"


def _write(handle: IO[bytes], text: str) -> None:
    """Who holds it is a help for people: a full disk must not stop the holder."""
    try:
        handle.seek(0)
        handle.truncate()
        handle.write(text.encode())
    except OSError as error:
        log.debug("the holder of a lock could not be noted: %s", error.strerror)
