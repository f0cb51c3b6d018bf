"""What is wrong with a source's published folder. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from include.etl.errors import StorageError
from include.etl.publication import journal
from include.etl.records import manifest
from include.etl.records.manifest import Manifest, PublishedFile
from include.etl.storage import Storage, sha256


@dataclass
class Damage:
    """Names are relative to the source's published folder."""

    standing: list[Manifest] = field(default_factory=list)
    manifests: list[str] = field(default_factory=list)
    """Cannot be understood."""
    files: list[tuple[Manifest, PublishedFile]] = field(default_factory=list)
    """Listed, but gone or changed; with them the same partition in other formats."""
    strangers: list[str] = field(default_factory=list)
    """Not listed by any manifest: rows of a manifest that is gone."""
    journal: bool = False
    """A publication was stopped, and its list of what remains to be done cannot be understood."""

    @property
    def lines(self) -> list[str]:
        """As a person reads it; empty if all is well."""
        lines = [f"manifest {name} cannot be understood" for name in self.manifests]
        lines += [f"file {file.path} is gone or changed ({file.rows} rows)" for _, file in self.files]
        lines += [f"file {name} is listed in no manifest" for name in self.strangers]
        return lines + ["a stopped publication cannot be finished: its journal is damaged"] * self.journal


def find(storage: Storage, source: str) -> Damage:
    """Compare the folder with its manifests, every file by its content. The caller holds the source's lock."""
    folder, found = manifest.published_folder(storage, source), Damage()
    try:
        pending = journal.pending(storage.root / "staging" / source)
    except StorageError:
        pending, found.journal = None, True
    for path in sorted((folder / manifest.FOLDER).glob("[!.]*.json")):
        try:
            found.standing.append(manifest.read(path))
        except StorageError:
            found.manifests.append(path.relative_to(folder).as_posix())
    for one in found.standing if pending is None else ():
        spoilt = {file.partition for file in one.files if not _whole(folder, file)}
        found.files += [(one, file) for file in one.files if file.partition in spoilt]
    if pending is None:
        listed = {file.path for one in found.standing for file in one.files}
        found.strangers = [name for name in _data_files(folder) if name not in listed]
    return found


def _whole(folder: Path, file: PublishedFile) -> bool:
    path = folder / file.path
    try:
        return path.stat().st_size == file.bytes and sha256(path) == file.sha256
    except OSError:
        return False


def _data_files(folder: Path) -> list[str]:
    """Those that readers see: names with a dot in front are locks, what was being written, or a file manager's."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [path.as_posix() for path in paths if path.parts[0] != manifest.FOLDER and path.name[0] != "."]
