"""Backups of configuration and checkpoints: made, read back, compared, and kept for so many days and months."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.etl.config import Source, include_folder
from include.etl.errors import CheckpointError, ConfigurationError, StorageError
from include.etl.lock import locked
from include.etl.maintenance.due import Entry
from include.etl.maintenance.policy import FILE, Policy
from include.etl.records import audit, checkpoint
from include.etl.sources import BrokenSource, load_sources
from include.etl.storage import Storage, plain_name, read_json, seal, sha256, sync_folder, write_json

CONFIGURATION, CHECKPOINTS, RECORD = "configuration.tar.gz", "checkpoints.json", "backup.json"
PARTS = ("sources", "sql", "expectations")
STAMP = "%Y%m%dT%H%M%SZ"


def make(storage: Storage, variables: checkpoint.Variables, who: str = "") -> str:
    """Make a backup, read it back, and give it its name; the name is the answer.

    Raises:
        StorageError: it could not be written, or what was read back is not what was written.
    """
    folder = storage.folder("backups")
    with locked(folder / ".lock", "the folder of backups", "a backup"):
        name = _make(storage, folder, variables)
        audit.record(storage, "backup made", "", who=who, backup=name, sha256=sha256(folder / name / RECORD))
    return name


def _make(storage: Storage, folder: Path, variables: checkpoint.Variables) -> str:
    now, staged = datetime.now(UTC), storage.fresh_folder("backups", ".making")
    name, members = f"{now:{STAMP}}", _write_configuration(staged / CONFIGURATION)
    checkpoints, problems = _checkpoints(storage, variables)
    write_json(staged / CHECKPOINTS, checkpoints)
    written = {path: staged / path for path in (CONFIGURATION, CHECKPOINTS)}
    files = {path: {"bytes": file.stat().st_size, "sha256": sha256(file)} for path, file in written.items()}
    record = {"format_version": 1, "made_at": now.isoformat(), "files": files, "members": members}
    write_json(staged / RECORD, record | {"audit": audit.head_of(storage), "problems": problems})
    _check(staged)
    staged.rename(folder / name)
    sync_folder(folder)
    return name


def names(storage: Storage) -> list[str]:
    """The backups, oldest first."""
    found = (storage.root / "backups").glob("*")
    return sorted(path.name for path in found if re.fullmatch(r"\d{8}T\d{6}Z", path.name))


def verify(storage: Storage, name: str | None = None) -> dict[str, Any]:
    """Read a backup (the newest by default) and compare all of it with its record, which is the answer.

    Raises:
        ConfigurationError: there is no such backup.
        StorageError: it is damaged; the message names what.
    """
    found = names(storage)
    if not found or (name is not None and name not in found):
        raise ConfigurationError(f"backup: {name!r}; allowed: {', '.join(found) or 'none: none was made yet'}")
    return {"backup": name or found[-1], **_check(storage.root / "backups" / plain_name(name or found[-1]))}


def due(storage: Storage, policy: Policy, now: datetime) -> list[Entry]:
    """Those that are neither the newest of one of the last days nor of one of the last months, nor recent."""
    found, recent = names(storage), f"{now - policy.longest_run:{STAMP}}"
    kept = set(found[-1:])
    for length, count in ((8, policy.backups.daily), (6, policy.backups.monthly)):
        newest = {name[:length]: name for name in found}
        kept |= {newest[period] for period in sorted(newest)[-count:]}
    return [_entry(storage, name) for name in found if name not in kept and name < recent]


def _entry(storage: Storage, name: str) -> Entry:
    files = [path for path in (storage.root / "backups" / name).rglob("*") if path.is_file()]
    made = datetime.strptime(name, STAMP).replace(tzinfo=UTC)
    why, size = "neither among the last days nor the last months", sum(path.stat().st_size for path in files)
    path = f"backups/{name}"
    return Entry(kind="backups", source="", path=path, files=len(files), bytes=size, newest=made, why=why)


def _write_configuration(path: Path) -> dict[str, str]:
    root = include_folder()
    chosen = [file for part in PARTS for file in sorted((root / part).rglob("*")) if file.is_file()]
    chosen += [root / FILE] if (root / FILE).exists() else []
    try:
        with tarfile.open(path, "w:gz") as archive:
            for file in chosen:
                archive.add(file, file.relative_to(root).as_posix(), recursive=False, filter=_plain)
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error
    seal(path)
    return {file.relative_to(root).as_posix(): sha256(file) for file in chosen}


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without this machine's users."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o640
    return member


def _checkpoints(storage: Storage, variables: checkpoint.Variables) -> tuple[dict[str, Any], list[str]]:
    """Those that can be used, and why others cannot: also one that is lost, or a source whose file cannot be read."""
    sources, found = load_sources(), {}
    problems = [source.error for source in sources if isinstance(source, BrokenSource)]
    for source in sources:
        if not isinstance(source, Source) or source.cursor is None:
            continue
        try:
            known = checkpoint.read(source, variables, storage)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if known is not None:
            found[source.source] = json.loads(str(variables.get(checkpoint.variable_key(source.source))))
    return found, problems


def _check(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = read_json(folder / RECORD)
    for name, known in record["files"].items():
        path = folder / plain_name(name)
        if not path.exists() or sha256(path) != known["sha256"]:
            raise StorageError(f"backup {folder.name}: {name} is missing or damaged; take another backup")
    try:
        with tarfile.open(folder / CONFIGURATION) as archive:
            found = {one.name: _hash(archive, one) for one in archive.getmembers()}
    except (OSError, tarfile.TarError) as error:
        raise StorageError(f"backup {folder.name}: {CONFIGURATION}: {type(error).__name__}") from None
    if found != record["members"]:
        raise StorageError(f"backup {folder.name}: {CONFIGURATION} does not hold what its record says")
    read_json(folder / CHECKPOINTS)
    return record


def _hash(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = archive.extractfile(member)
    return hashlib.sha256(content.read() if content else b"").hexdigest()
