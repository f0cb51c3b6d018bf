"""Who did what, when, why and with which result: a line of JSON each, chained by hashes, in `data/audit/<month>.jsonl`.

Each line holds the hash of the line before it, over all months, and ends with its own. `head.json`, beside them, holds
the newest line. It is written first: what a crash leaves half-written is completed from it, and a tail that was cut
off is missed. Runs and backups keep number and hash of the newest line too. `audit_check.py` finds what was changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.etl.errors import StorageError
from include.etl.lock import locked
from include.etl.storage import FILE_MODE, Storage, read_json, write_json

HEAD = "head.json"
BEGIN = "0" * 64
"""What the very first line has for the hash of the one before."""
LOST = "lines may be lost: "
"""How the reason of a repair begins that hides nothing: the audit stays not in order."""
Head = dict[str, Any]
"""file, start (its size before the line), number, hash, line (without its end of line)."""


def record(storage: Storage, action: str, source: str, reason: str = "", *, who: str = "", **facts: Any) -> Head:
    """Add a line and wait until it is on the disk; its number and hash, for keeping elsewhere.

    `facts` hold no row values. `who` is this process's user by default.

    Raises:
        StorageError: it could not be written; what it was to tell of must not be done.
    """
    folder = storage.folder("audit")
    facts |= {"sudo_user": os.environ["SUDO_USER"]} if "SUDO_USER" in os.environ else {}
    told = {"who": who or user(), "host": socket.gethostname(), "action": action, "source": source, "reason": reason}
    with locked(folder / ".lock", "the audit", action):
        try:
            new = _append(folder, _settled(storage, folder), told | facts)
        except OSError as error:
            raise StorageError(f"folder {folder}: {error.strerror}") from error
    return {key: new[key] for key in ("number", "hash")}


def user() -> str:
    """The operating system's user of this process, whatever its environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have a number only
        return f"uid {os.getuid()}"


def head_of(storage: Storage) -> Head | None:
    """Number and hash of the newest line, for keeping elsewhere; None where there is no audit yet."""
    head = _head(storage.root / "audit")
    return {key: head[key] for key in ("number", "hash")} if head else None


def months(folder: Path) -> list[Path]:
    """The files, oldest first."""
    return sorted(path for path in folder.glob("*.jsonl") if path.name[0] != ".")


def chained(number: int, previous: str, content: dict[str, Any]) -> tuple[str, str]:
    """A line without its end, and its hash: that of all that stands before it in the line."""
    body = json.dumps({"number": number, **content, "previous": previous}, ensure_ascii=False, default=str)[:-1]
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{body}, "hash": "{digest}"}}', digest


def _append(folder: Path, head: Head | None, content: dict[str, Any]) -> Head:
    now = datetime.now(UTC)
    number, previous = (head["number"] + 1, head["hash"]) if head else (1, BEGIN)
    name = max(f"{now:%Y-%m}.jsonl", head["file"] if head else "")  # a clock that is put back opens no earlier month
    line, digest = chained(number, previous, {"at": now.isoformat(), **content})
    start = _ended(folder / name)
    new = {"file": name, "start": start, "number": number, "hash": digest, "line": line}
    write_json(folder / HEAD, new)
    _write(folder / name, f"{line}\n".encode())
    return new


def published(storage: Storage) -> bool:
    """Whether there are publications, so that there must be an audit."""
    return any((storage.root / "processed").glob("*/_manifests/*.json"))


def _head(folder: Path) -> Head | None:
    """None where it is missing or damaged: a run must not fail for that, the check tells of it."""
    try:
        head = read_json(folder / HEAD)
        kinds = {"file": str, "start": int, "number": int, "hash": str, "line": str}
        return head if all(isinstance(head[key], kind) for key, kind in kinds.items()) else None
    except (StorageError, KeyError, TypeError):
        return None


def _settled(storage: Storage, folder: Path) -> Head | None:
    """The head, after what a crash had left half-written is completed, and a line says so."""
    head = _head(folder)
    if head is None:
        return _without_head(storage, folder)
    path, line = folder / head["file"], f"{head['line']}\n".encode()
    size = path.stat().st_size if path.exists() else 0
    found = _from(path, head["start"]) if size >= head["start"] else b"cut"
    if found == line or not line.startswith(found):
        return head  # in order, or changed by somebody: left as it is, so that the check finds it
    _write(path, line[len(found) :])
    facts = {"file": head["file"], "line": head["number"], "found_bytes": len(found), "of_bytes": len(line)}
    return _append(folder, head, _repair("the last line was half-written; it was completed", facts))


def _without_head(storage: Storage, folder: Path) -> Head | None:
    """Go on after the last line that can be read; one line says that the head was missing, or all of the audit."""
    for path in reversed(months(folder)):
        for text in reversed(path.read_text(encoding="utf-8", errors="replace").split("\n")):
            try:
                found = json.loads(text)
                last = {"file": path.name, "number": int(found["number"]), "hash": str(found["hash"])}
            except (ValueError, KeyError, TypeError):
                continue
            what = f"{HEAD} was missing or damaged; lines after {last['number']} may be missing"
            return _append(folder, last, _repair(LOST + what, {}))
    if (folder / HEAD).exists() or published(storage):
        return _append(folder, None, _repair(LOST + "the audit was empty, though there had been one", {}))
    return None


def _repair(what: str, facts: dict[str, Any]) -> dict[str, Any]:
    return {"who": user(), "host": socket.gethostname(), "action": "audit repaired", "reason": what, **facts}


def _ended(path: Path) -> int:
    """The file's size, after an end of line is added where somebody cut it within a line."""
    if not path.exists():
        return 0
    size = path.stat().st_size
    if size and _from(path, size - 1) != b"\n":
        _write(path, b"\n")
        return size + 1
    return size


def _from(path: Path, start: int) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(start)
        return file.read()


def _write(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
    try:
        os.fchmod(handle, FILE_MODE)
        while content:
            content = content[os.write(handle, content) :]
        os.fsync(handle)
    finally:
        os.close(handle)
