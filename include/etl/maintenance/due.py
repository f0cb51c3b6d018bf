"""Finds what is due to be deleted; deletes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from include.etl import quarantine
from include.etl.config import Source
from include.etl.errors import ConfigurationError
from include.etl.handover import Handover
from include.etl.lock import left_by
from include.etl.maintenance.findings import Finding, disagreements, overdue
from include.etl.maintenance.look import Kind, Look, changed
from include.etl.publication import journal, standing
from include.etl.records.manifest import FOLDER, Manifest, path_of
from include.etl.sources import load_sources
from include.etl.storage import Storage, read_json

VERSIONS = 30
"""Kept versions of a checkpoint that stay: a source that has not run for years still has one to go back to."""
BY_SOURCE = ("raw", "interim", "processed", "quarantine", "reports", "runs", "staging", "checkpoints")


class Entry(Handover):
    """One thing that is due. It goes only if it is found again exactly like this."""

    kind: Kind
    source: str
    path: str
    """Below the data folder; of a publication its manifest."""
    files: int
    bytes: int
    newest: datetime
    """When something in it last changed; of a publication when it was made."""
    why: str


def known_sources(storage: Storage) -> list[str]:
    """All that are configured or have a folder."""
    folders = {path.name for area in BY_SOURCE for path in (storage.root / area).glob("[!._]*") if path.is_dir()}
    return sorted(folders | {source.source for source in load_sources()})


def refuse_unknown_hold(look: Look) -> None:
    """A name that is misspelt would hold nothing.

    Raises:
        ConfigurationError: with the names that there are.
    """
    known = known_sources(look.storage)
    for name in look.policy.hold:
        if name not in known:
            raise ConfigurationError(f"maintenance.yaml: hold: {name!r}; allowed: {', '.join(known) or 'none yet'}")


def of_source(look: Look, source: str) -> tuple[list[Entry], list[Finding]]:
    """What of a source is due; nothing of one that is held. The caller holds the source's gate and lock."""
    found = (
        standing.look(look.storage, source) if (look.storage.root / "processed" / source / FOLDER).exists() else None
    )
    manifests = found.manifests if found else []
    undecided = [one for one in quarantine.standing(look.storage, source) if one.released_by is None]
    findings = [*disagreements(look, source, manifests), *overdue(look, undecided)]
    if source in look.policy.hold:
        return [], findings
    keys = {one.run_key for one in undecided}
    entries = [*_runs_folders(look, source, manifests, keys), *_temporary(look, source), *_staging(look, source)]
    entries += [*_checkpoints(look, source), *_publications(look, source, manifests)]
    return entries, findings


def shared(look: Look) -> list[Entry]:
    """What is due of files that hold lines of all sources: none while one is held."""
    if look.policy.hold:
        return []
    kinds: tuple[Kind, ...] = ("logs", "history")
    paths = [(kind, path) for kind in kinds for path in (look.storage.root / kind).rglob("[!.]*") if path.is_file()]
    return [entry for kind, path in paths if (entry := _entry(look, kind, "", path, "older than keep"))]


def _runs_folders(look: Look, source: str, manifests: list[Manifest], undecided: set[str]) -> Iterator[Entry]:
    named = {Path(str(one.validation.get(key))).parent.name for one in manifests for key in ("result", "report")}
    for kind in ("raw", "interim", "reports", "quarantine", "runs"):
        area: Kind = kind
        for path in sorted((look.storage.root / kind / source).glob("[!.]*")):
            key = path.name.removesuffix("-references")
            needed = (kind == "reports" and key in named) or (
                kind == "quarantine" and (key in undecided or not _published(look, source, key))
            )
            busy = at_work(look.storage, source, key) or _waits(look, source, key)
            if path.is_dir() and not needed and not busy:
                entry = _entry(look, area, source, path, "older than keep")
                yield from [entry] if entry else []


def _waits(look: Look, source: str, key: str) -> bool:
    """Whether the run is between two tasks, for however long: the next one needs what the one before has made."""
    path = look.storage.root / "runs" / source / key / "summary.json"
    configured = any(one.source == source for one in load_sources())
    return configured and path.exists() and read_json(path)["status"] == "running"


def at_work(storage: Storage, source: str, key: str) -> bool:
    """Whether a task of this run is at work."""
    return any(left_by(lock) is None for lock in (storage.root / "runs" / source / key).glob(".*.lock"))


def _published(look: Look, source: str, key: str) -> bool:
    path = look.storage.root / "runs" / source / key / "summary.json"
    return not path.exists() or read_json(path)["status"] == "published"


def _temporary(look: Look, source: str) -> Iterator[Entry]:
    for area in ("processed", "checkpoints"):
        for path in sorted((look.storage.root / area / source).rglob(".*.tmp")):
            entry = _entry(look, "temporary", source, path, "left by a process that was killed")
            yield from [entry] if entry else []


def _checkpoints(look: Look, source: str) -> Iterator[Entry]:
    paths = sorted((look.storage.root / "checkpoints" / source).glob("[0-9]*"))
    versions = [path for path in paths if path.suffix == ".json"]
    for path in [path for path in paths if path not in versions[-VERSIONS:]]:
        entry = _entry(look, "checkpoints", source, path, "older than keep, and many newer ones are there")
        yield from [entry] if entry else []


def _staging(look: Look, source: str) -> Iterator[Entry]:
    path = look.storage.root / "staging" / source
    if path.exists() and not (path / journal.NAME).exists():
        entry = _entry(look, "staging", source, path, "left by a publication that was stopped before it counted")
        yield from [entry] if entry else []


def _publications(look: Look, source: str, manifests: list[Manifest]) -> Iterator[Entry]:
    """Those of a source that adds rows; the newest stays, and so does all while a publication is not finished."""
    configured = next((one for one in load_sources() if one.source == source), None)
    appends = isinstance(configured, Source) and configured.load == "append"
    if not appends or (look.storage.root / "staging" / source / journal.NAME).exists():
        return
    newest = max((one.published_at for one in manifests), default=None)
    for one in manifests:
        if one.published_at != newest and look.due("processed", one.published_at):
            yield Entry(
                kind="processed",
                source=source,
                path=f"processed/{source}/{path_of(one.window)}",
                files=len(one.files) + 1,
                bytes=sum(file.bytes for file in one.files),
                newest=one.published_at,
                why="published longer ago than keep",
            )


def _entry(look: Look, kind: Kind, source: str, path: Path, why: str) -> Entry | None:
    """The entry for a file or a folder with all that is in it, if it is due."""
    inside = sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else []
    newest = max(changed(one) for one in [path, *inside])
    if not look.due(kind, newest):
        return None
    files = [one for one in [path, *inside] if one.is_symlink() or one.is_file()]
    size = sum(one.lstat().st_size for one in files)
    relative = look.storage.relative(path)
    return Entry(kind=kind, source=source, path=relative, files=len(files), bytes=size, newest=newest, why=why)
