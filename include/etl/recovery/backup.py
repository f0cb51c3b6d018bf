"""Backups as the maintenance DAG makes them: found, checked, and put back.

data/backups/<UTC stamp>/configuration.tar.gz   sources, SQL, expectations
                         checkpoints.json       {source: checkpoint}
                         backup.json            SHA-256 of both, see docs/maintenance.md
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from include.etl.errors import ConfigurationError, StorageError
from include.etl.storage import FILE_MODE, Storage, make_folder, publish, read_json, seal, sha256

log = logging.getLogger("etl.recovery")
CONFIGURATION, CHECKPOINTS, SEAL = "configuration.tar.gz", "checkpoints.json", "backup.json"
LATEST = "latest"
_STAMP = re.compile(r"\d{8}T\d{6}")


@dataclass(frozen=True)
class Backup:
    """One backup; its name says when it was made."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def made_at(self) -> datetime:
        """The moment in its name."""
        return datetime.strptime(self.name[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)

    def problem(self) -> str | None:
        """Why it cannot be used; None if it is whole."""
        try:
            known = read_json(self.folder / SEAL)["files"]
            for name in (CONFIGURATION, CHECKPOINTS):
                if sha256(self.folder / name) != known[name]["sha256"]:
                    return f"{name} has changed since it was written (SHA-256)"
        except (StorageError, OSError) as error:
            return str(error)
        except (KeyError, TypeError):
            return f"{SEAL} holds no SHA-256 of both files"
        return None

    def checkpoints(self) -> dict[str, str]:
        """Source -> text of its checkpoint."""
        found = read_json(self.folder / CHECKPOINTS)
        return {name: text if isinstance(text, str) else json.dumps(text) for name, text in found.items() if text}


def backups(storage: Storage) -> list[Backup]:
    """All backups, oldest first, also those that cannot be used."""
    folder = storage.root / "backups"
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [Backup(path) for path in found if _STAMP.match(path.name)]


def chosen(storage: Storage, wanted: str) -> Backup:
    """The backup of this name, or for `latest` the newest one that is whole.

    Raises:
        ConfigurationError: there is none; the message names those that are there.
    """
    found = backups(storage)
    for backup in reversed(found):
        if wanted not in (LATEST, backup.name):
            continue
        if (problem := backup.problem()) is None:
            return backup
        log.warning("backup %s cannot be used: %s", backup.name, problem)
    names = ", ".join(backup.name for backup in found if backup.problem() is None) or "none: there is no whole backup"
    raise ConfigurationError(f"backup: {wanted!r} is not there, or not whole; allowed: {LATEST}, {names}")


def restore_configuration(backup: Backup, include: Path, aside: Path) -> list[str]:
    """Put back every file that differs; what it replaces is kept in `aside`. The names of the files put back.

    Files that the backup does not have stay: they are newer.
    """
    changed = []
    with tempfile.TemporaryDirectory(prefix="restore-") as scratch:
        folder = _unpacked(backup, Path(scratch))
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder)
            if (include / name).is_file() and (include / name).read_bytes() == path.read_bytes():
                continue
            _replace(path, include / name, aside / name)
            changed.append(name.as_posix())
    return changed


def sources(backup: Backup) -> list[str]:
    """The sources whose configuration it holds."""
    with _opened(backup) as archive:
        paths = [PurePosixPath(name) for name in archive.getnames()]
    return [path.stem for path in paths if path.match("sources/[!_]*.yaml")]


def _unpacked(backup: Backup, scratch: Path) -> Path:
    with _opened(backup) as archive:
        archive.extractall(scratch, filter="data")  # refuses names that lead elsewhere
    return scratch / "include" if (scratch / "include").is_dir() else scratch


@contextmanager
def _opened(backup: Backup) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(backup.folder / CONFIGURATION) as archive:
            yield archive
    except (OSError, tarfile.TarError) as error:
        raise StorageError(f"backup {backup.name}: {CONFIGURATION} cannot be unpacked: {error}") from None


def _replace(new: Path, target: Path, aside: Path) -> None:
    try:
        if target.exists():
            make_folder(aside.parent)
            shutil.copyfile(target, aside)
            aside.chmod(FILE_MODE)
        make_folder(target.parent)
        staged = target.with_name(f".{target.name}.tmp")
        shutil.copyfile(new, staged)
    except OSError as error:
        raise StorageError(
            f"file {target}: {error.strerror}; where the configuration is deployed read-only, deploy it from version "
            "control and recover without a backup's configuration"
        ) from error
    seal(staged)
    publish(staged, target)


def summary(backup: Backup) -> dict[str, Any]:
    """What `recover.py backups` shows."""
    problem = backup.problem()
    sources = sorted(backup.checkpoints()) if problem is None else []
    return {"backup": backup.name, "made_at": backup.made_at.isoformat(), "problem": problem, "sources": sources}
