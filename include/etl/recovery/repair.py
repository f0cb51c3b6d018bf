"""Takes what is damaged out of the published folder, so that it can be read again. Nothing is deleted."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from include.etl.config import Source
from include.etl.errors import StorageError
from include.etl.handover import Position
from include.etl.publication import journal
from include.etl.records import covers, manifest
from include.etl.records.manifest import Manifest, PublishedFile
from include.etl.recovery.asked import Asked
from include.etl.recovery.damage import Damage, find
from include.etl.recovery.spans import AGAIN, Span, emptied, to_read_again
from include.etl.storage import Storage, make_folder, write_json


def set_aside(storage: Storage, source: Source, bound: object, asked: Asked) -> tuple[Damage, list[Span] | None]:
    """Move damaged and unlisted files to data/damaged/<source>/<stamp>; what was wrong, and what to read again.

    What to read again is written down first: a recovery that is killed in between is taken up by the next one.
    """
    with storage.lock(source.source, f"recovery {asked.stamp}"):
        folder, staging = manifest.published_folder(storage, source.source), storage.root / "staging" / source.source
        damage = find(storage, source.source)
        if not damage.journal:
            journal.finish(staging, folder)  # of a publication that was stopped
            damage = find(storage, source.source)
        spans = to_read_again(storage, source, damage, bound)
        aside = storage.folder("damaged", source.source) / asked.stamp
        gone = [*damage.manifests, *(file.path for _, file in damage.files), *damage.strangers]
        if damage.lines:
            remember(storage, source.source, spans)
            dropped = [manifest.path_of(one.window) for one in emptied(damage)]
            asked.record(storage, "damage set aside", source.source, paths=gone, manifests_dropped=dropped)
        if damage.journal:
            _move(staging, aside / "staging")
        for one in {one.window.name: one for one, _ in damage.files}.values():
            _write_less(folder, one, [file for of, file in damage.files if of is one])
        for name in gone:
            _move(folder / name, aside / name)
        _hand_on(folder, emptied(damage), manifest.current(storage, source.source))
        return damage, spans


def remember(storage: Storage, source: str, spans: Sequence[Span] | None) -> None:
    """Write down what is still to be read; [] clears it."""
    path = storage.folder("damaged", source) / AGAIN
    if spans == []:
        path.unlink(missing_ok=True)
        return
    listed = None if spans is None else [[_plain(one.start), _plain(one.end)] for one in spans]
    write_json(path, {"spans": listed})


def _plain(position: Position | None) -> str | int | None:
    return position.isoformat() if isinstance(position, datetime) else position


def _write_less(folder: Path, one: Manifest, lost: Sequence[PublishedFile]) -> None:
    """The manifest without these files: as if a later publication had replaced their rows, which it will."""
    paths, path = {file.path for file in lost}, folder / manifest.path_of(one.window)
    left = [file for file in one.files if file.path not in paths]
    if not left:
        path.unlink()
        return
    rows = sum(file.rows for file in lost if file.format == one.files[0].format)
    changed = one.model_copy(update={"files": left, "replaced_later": one.replaced_later + rows})
    write_json(path, changed.model_dump(mode="json"))


def _hand_on(folder: Path, gone: Sequence[Manifest], standing: Sequence[Manifest]) -> None:
    """What manifests that go have taken over from earlier windows stays known: those rows were not lost now."""
    known = [covered for one in gone for covered in one.covers]
    if known and standing:
        heir = max(standing, key=lambda one: one.published_at)
        changed = heir.model_copy(update={"covers": covers.joined([*heir.covers, *known])})
        write_json(folder / manifest.path_of(heir.window), changed.model_dump(mode="json"))


def _move(path: Path, target: Path) -> None:
    if not path.exists():
        return
    make_folder(target.parent)
    try:
        shutil.move(path, target)
        if "=" in path.parent.name and not any(path.parent.iterdir()):
            path.parent.rmdir()
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error
