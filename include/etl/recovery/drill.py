"""Practises a recovery in a scratch place, and says how much would be lost and how long it would take.

Nothing outside the scratch place is changed. Of each source one day is read, through all phases.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from include.etl.config import Source, include_folder
from include.etl.errors import ConfigurationError, ExtractionError
from include.etl.lock import locked
from include.etl.phases.request import Parameters, Trigger
from include.etl.publication import standing
from include.etl.records import audit, checkpoint, manifest
from include.etl.records.run import Run
from include.etl.recovery import backup as backups
from include.etl.run import default_mode, through_phases
from include.etl.sources import load_source
from include.etl.storage import Storage, link, make_folder, remove_folder, write_json

DAY = timedelta(days=1)
NUMBERS = 10_000
"""How many numbers of a cursor a drill reads where no day can be told."""
INCLUDE_FOLDER = "ETL_INCLUDE"
_FOLDERS = ("sources", "sql", "expectations")


@dataclass
class Variables:
    """Checkpoints in memory: a drill moves nobody else's."""

    texts: dict[str, str] = field(default_factory=dict)

    def get(self, key: str) -> str | None:
        """The value, or None where there is none."""
        return self.texts.get(key)

    def set(self, key: str, value: str, description: str) -> None:  # noqa: ARG002 - nobody reads it here
        """Keep the value."""
        self.texts[key] = value

    def delete(self, key: str) -> None:
        """Forget the value."""
        self.texts.pop(key, None)

    def overridden_by(self, key: str) -> str:  # noqa: ARG002 - nothing does here
        """What answers in place of what is stored."""
        return ""


def drill(
    storage: Storage,
    current: checkpoint.Variables,
    stamp: str,
    wanted: str = backups.LATEST,
    names: Sequence[str] = (),
    who: str = "",
) -> dict[str, Any]:
    """Restore into a scratch place and read one day of each source; the place is removed, whatever happens.

    Raises:
        ConfigurationError: there is no whole backup, or it does not hold a source that is named.
    """
    started, backup = time.monotonic(), backups.chosen(storage, wanted)
    with _scratch(storage) as (include, data):
        backups.restore_configuration(backup, include, include.parent / "aside")
        restored_s = time.monotonic() - started
        held = sorted(path.stem for path in (include / "sources").glob("[!_]*.yaml"))
        if missing := [name for name in names if name not in held]:
            allowed = ", ".join(held)
            raise ConfigurationError(f"sources: {missing[0]!r}; allowed: those of backup {backup.name}: {allowed}")
        audit.record(storage, "recovery drill", "", who=who, backup=backup.name, sources=[*(names or held)])
        found = [_one(name, backup, storage, current, data, stamp) for name in names or held]
    age = datetime.now(UTC) - backup.made_at
    return {
        "drill": stamp,
        "verdict": "recovered" if found and not any(one["error"] for one in found) else "failed",
        "backup": backup.name,
        "backup_age_hours": round(age / timedelta(hours=1), 1),
        "configured_since": sorted({path.stem for path in _configured()} - set(held)),
        "restore_seconds": round(restored_s, 1),
        "seconds": round(time.monotonic() - started, 1),
        "estimated_seconds": round(restored_s + sum(one["estimated_seconds"] or 0 for one in found), 1),
        "sources": found,
    }


def _one(
    name: str, backup: backups.Backup, storage: Storage, current: checkpoint.Variables, data: Path, stamp: str
) -> dict[str, Any]:
    """One source: its day read into the scratch place, beside what stands published in the real one."""
    key, started = checkpoint.variable_key(name), time.monotonic()
    kept = backup.checkpoints().get(name)
    publications = manifest.current(storage, name)
    published = sum(file.rows for one in publications for file in one.files if file.format == one.files[0].format)
    found: dict[str, Any] = {
        "source": name,
        "error": None,
        "rows": 0,
        "checkpoint": _bound(kept),
        "checkpoint_now": _bound(current.get(key)),
        "windows_since": [one.window.name for one in publications if one.published_at > backup.made_at],
        "published_rows": published,
    }
    try:
        source, place = load_source(name), Storage(data / name)
        _link_references(source, storage, place)
        found["rows"] = _read_one_day(source, Variables({key: kept} if kept else {}), place, stamp)
    except ExtractionError as error:
        found["error"] = f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - started
    estimated = round(seconds * max(published / found["rows"], 1), 1) if found["rows"] else None
    return found | {"seconds": round(seconds, 1), "estimated_seconds": estimated}


def _link_references(source: Source, storage: Storage, place: Storage) -> None:
    """Give the scratch place what stands published of the sources that this one refers to: one day would not do."""
    for other in sorted({one.source for one in source.validation.references.values() if one.source}):
        folder = manifest.published_folder(place, other)
        with standing.held(storage, other, "recovery drill") as found:
            for one in found.manifests:
                for file in one.files:
                    make_folder((folder / file.path).parent)
                    link(found.folder_of(file) / file.path, folder / file.path)
                write_json(folder / manifest.path_of(one.window), one.model_dump(mode="json"))


def _read_one_day(source: Source, variables: Variables, data: Storage, stamp: str) -> int:
    """The day, or the numbers, before the backup's checkpoint; a source with neither can only be read as a whole."""
    reason, kept = "recovery drill", checkpoint.parse(source, variables)
    if source.cursor is None or (kept is None and source.cursor.numbered):
        asked = Parameters("full", reason=reason)
    elif kept is not None and isinstance(kept.bound, int):
        asked = Parameters("range", str(max(kept.bound - NUMBERS, 0)), str(kept.bound), reason=reason)
    elif kept is not None and isinstance(kept.bound, datetime):
        asked = Parameters("range", (kept.bound - DAY).isoformat(), kept.bound.isoformat(), reason=reason)
    else:
        asked = Parameters("range", last_n_days=1, reason=reason)
    run = Run(source, f"drill__{stamp}", data, "recovery_drill")
    trigger = Trigger(datetime.now(UTC), default_mode=default_mode(source), triggered_by="recovery_drill")
    result = through_phases(run, asked, trigger, variables)
    return result.published.rows.extracted if result.published else 0


def _bound(text: str | None) -> str | None:
    """Up to where a checkpoint goes, as it is written; what cannot be understood is shown as such."""
    try:
        return str(json.loads(text)["bound"]) if text else None
    except (ValueError, KeyError, TypeError):
        return "cannot be used"


def lines(found: dict[str, Any]) -> list[str]:
    """As a person reads it."""
    text = [
        f"drill {found['drill']}: {found['verdict'].upper()} in {found['seconds']} s",
        f"backup {found['backup']} is {found['backup_age_hours']} hours old",
        f"to read everything again from all sources would take about {found['estimated_seconds']} s",
    ]
    if found["configured_since"]:
        text.append(f"configured since, and lost: {', '.join(found['configured_since'])}")
    for one in found["sources"]:
        text.append(f"{one['source']}: {one['error'] or 'one day was read and published'}; {one['rows']} rows")
        text.append(
            f"    checkpoint of the backup: {one['checkpoint'] or 'none'}; now: {one['checkpoint_now'] or 'none'}"
        )
        text.append(f"    {len(one['windows_since'])} windows were published since, which would be read again")
    return text


@contextmanager
def _scratch(storage: Storage) -> Iterator[tuple[Path, Path]]:
    """Folders of its own for configuration and data, beside the real data; configuration is read from there."""
    before, folder = os.environ.get(INCLUDE_FOLDER), storage.root / ".drill"
    with locked(storage.root / ".drill.lock", "the drill's scratch place", "another drill", wait_s=0):
        remove_folder(folder)  # of a drill that was killed
        try:
            for name in _FOLDERS:
                make_folder(folder / "include" / name)
            os.environ[INCLUDE_FOLDER] = str(folder / "include")
            yield folder / "include", folder / "data"
        finally:
            os.environ.pop(INCLUDE_FOLDER, None)
            if before is not None:
                os.environ[INCLUDE_FOLDER] = before
            remove_folder(folder)


def _configured() -> list[Path]:
    return list((include_folder() / "sources").glob("[!_]*.yaml"))
