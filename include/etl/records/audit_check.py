"""Reads the audit, and finds a line that was removed, changed, added or moved, and a tail that was cut off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from include.etl.errors import StorageError
from include.etl.lock import locked
from include.etl.records.audit import BEGIN, HEAD, LOST, Head, months, published
from include.etl.storage import Storage, read_json

MARK = b', "hash": "'
KEPT = "audit.json"
"""What a run keeps in its folder: number and hash of its newest line."""


@dataclass(frozen=True)
class Problem:
    """What is wrong, and where: `line` counts within the file, from 1."""

    file: str
    line: int
    what: str


@dataclass
class Checked:
    """The result: how many lines there are, what is wrong, and which of them say that the audit was repaired."""

    lines: int = 0
    problems: list[Problem] = field(default_factory=list)
    repairs: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same for machines."""
        return asdict(self)


def check(storage: Storage) -> Checked:
    """Walk the chain from the first line to the head, and compare with what runs and backups have kept of it."""
    folder, known = storage.root / "audit", list(_known(storage))
    if not folder.exists():
        return Checked(problems=list(_compare_known(known, {})) + _if_empty(storage, None))
    with locked(folder / ".lock", "the audit", "its check", shared=True):
        result, seen, last = _walk(folder)
        result.problems += _compare_head(folder, last)
    result.problems += [*_compare_known(known, seen), *_if_empty(storage, last)]
    return result


def _walk(folder: Path) -> tuple[Checked, dict[int, str], Head | None]:
    """What the lines say by themselves; the hash of each, and the last as the head must be."""
    result, number, previous, seen, last = Checked(), 0, BEGIN, {}, None
    for path in months(folder):
        start = 0
        for place, raw in enumerate(_lines(path), 1):
            line, what = _understood(raw, number + 1, previous)
            result.lines += 1
            if line is not None:
                number, previous = line["number"], line["hash"]
                seen[number] = previous
                text = raw[:-1].decode()
                last = {"file": path.name, "start": start, "number": number, "hash": previous, "line": text}
                what = what or _told_as_repaired(line, result)
            if what:
                result.problems.append(Problem(path.name, place, what))
            start += len(raw)
    return result, seen, last


def _told_as_repaired(line: dict[str, Any], result: Checked) -> str:
    """Note a repair; the problem, if it could not bring back what had been there."""
    if line.get("action") != "audit repaired":
        return ""
    result.repairs.append({key: line.get(key, "") for key in ("number", "at", "reason")})
    return str(line["reason"]) if str(line.get("reason")).startswith(LOST) else ""


def entries(storage: Storage, source: str | None = None, since: str = "") -> Iterator[dict[str, Any]]:
    """The lines that can be read, oldest first, of one source or all; `since` is an ISO moment in UTC."""
    for path in months(storage.root / "audit"):
        for raw in _lines(path):
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            if isinstance(line, dict) and source in (None, line.get("source")) and str(line.get("at")) >= since:
                yield line


def _lines(path: Path) -> list[bytes]:
    try:
        *whole, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error
    return [part + b"\n" for part in whole] + ([rest] if rest else [])


def _understood(raw: bytes, number: int, previous: str) -> tuple[dict[str, Any] | None, str]:
    """The line, if it can be read at all, and what is wrong with it."""
    try:
        line = json.loads(raw)
        found, before, own = int(line["number"]), str(line["previous"]), str(line["hash"])
    except (ValueError, KeyError, TypeError):
        return None, f"cannot be read; line number {number} was expected"
    body, mark, end = raw.rpartition(MARK)
    if not mark or hashlib.sha256(body).hexdigest() != own or end != f'{own}"}}\n'.encode():
        return line, f"number {found} was changed: its content does not have its hash"
    if found > number:
        return line, f"number {number} up to {found - 1} are missing before it"
    if found < number:
        return line, f"number {found} is not in its place; {number} was expected"
    if before != previous:
        return line, f"number {found} does not follow from the line before it"
    return line, ""


def _compare_head(folder: Path, last: Head | None) -> Iterator[Problem]:
    path = folder / HEAD
    if last is None and not path.exists():
        return
    try:
        head = read_json(path)
    except StorageError:
        yield Problem(HEAD, 1, "is missing or cannot be read; lines may have been cut off the end")
        return
    if head == last:
        return
    if not isinstance(head, dict) or not isinstance(head.get("number"), int):
        yield Problem(HEAD, 1, "was changed: it names no line")
    elif last is None or head["number"] > last["number"]:
        first = (last["number"] if last else 0) + 1
        yield Problem(str(head.get("file")), 0, f"numbers {first} up to {head['number']} are missing at the end")
    else:
        yield Problem(HEAD, 1, f"does not agree with the last line, number {last['number']}")


def _known(storage: Storage) -> Iterator[tuple[str, Head]]:
    """Where number and hash of a line are kept, and which."""
    for path in sorted((storage.root / "backups").glob("[0-9]*/backup.json")):
        if kept := read_json(path).get("audit"):
            yield f"{path.parent.name}/{path.name}", kept
    for path in sorted((storage.root / "runs").glob(f"*/*/{KEPT}")):
        yield storage.relative(path), read_json(path)


def _compare_known(known: list[tuple[str, Head]], seen: dict[int, str]) -> Iterator[Problem]:
    """A chain that was written anew or begun again agrees with itself, but not with what was known before."""
    for place, kept in known:
        if seen.get(kept["number"]) != kept["hash"]:
            yield Problem(place, 0, f"number {kept['number']} is not the line that it was when this was written")


def _if_empty(storage: Storage, last: Head | None) -> list[Problem]:
    if last is None and published(storage):
        return [Problem("", 0, "there is no line, though there are publications")]
    return []
