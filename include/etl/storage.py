"""Where files lie, who may read them, and how they appear at once or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from include.etl.config import INCLUDE
from include.etl.errors import ConfigurationError, StorageError
from include.etl.lock import locked

DATA_URI = "ETL_DATA_URI"
FOLDER_MODE, FILE_MODE = 0o750, 0o640
Area = Literal[
    "alerts",
    "audit",
    "backups",
    "checkpoints",
    "damaged",
    "history",
    "interim",
    "logs",
    "maintenance",
    "observations",
    "processed",
    "raw",
    "reports",
    "runs",
    "staging",
]


def run_key(dag_id: str, run_id: str) -> str:
    """A run as a folder name: readable, without separators. Two DAGs of a source may have runs of the same id."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", run_id).strip(".-")[:80]
    return f"{readable}-{hashlib.sha256(f'{dag_id}/{run_id}'.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Storage:
    """The data folder. Paths handed between tasks are relative to it, so that workers may mount it anywhere."""

    root: Path

    @classmethod
    def from_environment(cls) -> Storage:
        """The folder named by ETL_DATA_URI (a path or a file:// URI), `data` in the project by default."""
        uri = os.environ.get(DATA_URI) or str(INCLUDE.parent / "data")
        parts = urlsplit(uri)
        if parts.scheme not in ("", "file"):
            raise ConfigurationError(f"{DATA_URI}: {parts.scheme}://... ; allowed: a local path or a file:// URI")
        return cls(Path(unquote(parts.path) if parts.scheme else uri).expanduser().absolute())

    def folder(self, area: Area, *names: str) -> Path:
        """A folder of the data folder; made on first use, readable by owner and group only."""
        path = self.root / area
        for name in names:
            path = path / plain_name(name)
        make_folder(path)
        return path

    def fresh_folder(self, area: Area, *names: str) -> Path:
        """The same, emptied of what an earlier try left there."""
        remove_folder(self.folder(area, *names))
        return self.folder(area, *names)

    def relative(self, path: Path) -> str:
        """The path as it is handed to another task."""
        return path.relative_to(self.root).as_posix()

    def absolute(self, relative: str) -> Path:
        """The path of what another task handed over; never outside the data folder."""
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise StorageError(f"path {relative!r} leaves the data folder")
        return path

    @contextmanager
    def lock(self, source: str, holder: str, *, shared: bool = False) -> Iterator[None]:
        """Only one publication of a source at a time, and none while `shared` readers are at work.

        Raises:
            TransientError: another one did not end in time; the message says whose it is and since when.
        """
        path = self.folder("processed", source) / ".lock"
        with locked(path, f"source {source!r}: its published data", holder, shared=shared):
            yield


def plain_name(name: str) -> str:
    """The name itself if it is a plain file name; a StorageError if it could lead anywhere else."""
    if not name or name in (".", "..") or re.search(r"[/\\\x00]", name):
        raise StorageError(f"{name!r} is not a plain file name")
    return name


def make_folder(path: Path) -> None:
    """Create the folder and what is missing above it, each 0750 whatever the umask, to survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            folder.chmod(FOLDER_MODE)
            sync_folder(folder.parent)
    except OSError as error:
        raise StorageError(f"folder {path}: {error.strerror}") from error


def check_one_file_system(staging: Path, final: Path) -> None:
    """Refuse folders between which a file cannot be renamed in one step."""
    if staging.stat().st_dev != final.stat().st_dev:
        raise StorageError(f"{staging} and {final} must lie in one file system; mount the whole data folder, not parts")


def seal(path: Path) -> None:
    """Set a finished file's permissions and wait until its bytes are on the disk."""
    try:
        path.chmod(FILE_MODE)
        with path.open("rb") as handle:
            os.fsync(handle.fileno())
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error


def publish(staged: Path, final: Path) -> None:
    """Give a sealed file its final name in one step, over an earlier one if there is one."""
    make_folder(final.parent)
    try:
        staged.replace(final)
        sync_folder(final.parent)
    except OSError as error:
        raise StorageError(f"file {final}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON so that a reader sees the old file or the new one, never half of it.

    One writer of a file at a time: its caller holds a lock. What a killed one leaves is written over by the next.
    """
    make_folder(path.parent)
    staged = path.with_name(f".{path.name}.tmp")
    try:
        staged.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise StorageError(f"file {path}: {error.strerror}") from error
    seal(staged)
    publish(staged, path)


def read_json(path: Path) -> Any:
    """Read a JSON file; a StorageError that names it when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error
    except ValueError as error:
        raise StorageError(f"file {path}: not valid JSON: {error}") from None


def link(path: Path, copy: Path) -> None:
    """Give a file, which is never written again, a second name; a copy where the file system has no hard links."""
    try:
        try:
            os.link(path, copy)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(path, copy)
            copy.chmod(FILE_MODE)
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error


def sha256(path: Path) -> str:
    """The file's SHA-256 as hexadecimal text."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def remove_folder(path: Path) -> None:
    """Remove a folder of temporary files; one that is not there is fine."""
    try:
        if path.exists():
            shutil.rmtree(path)
    except OSError as error:
        raise StorageError(f"folder {path}: {error.strerror}") from error
