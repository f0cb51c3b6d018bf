"""Lists what is due, keeps the list, and deletes exactly that list after looking at each entry again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.etl.errors import ConfigurationError, ExtractionError, StorageError, TransientError
from include.etl.handover import Handover
from include.etl.lock import locked
from include.etl.maintenance import backups
from include.etl.maintenance.due import Entry, known_sources, of_source, refuse_unknown_hold, shared
from include.etl.maintenance.findings import Finding, left_over
from include.etl.maintenance.look import Look
from include.etl.maintenance.policy import Policy, load_policy
from include.etl.publication import journal
from include.etl.records import audit, covers, manifest
from include.etl.records.run import gate
from include.etl.storage import Storage, plain_name, read_json, remove_folder, sha256, write_json

log = logging.getLogger("etl.maintenance")


class Listed(Handover):
    """What would go, what a person has to look at, and what could not be looked at."""

    made_at: datetime
    held: list[str]
    entries: list[Entry]
    findings: list[Finding]
    busy: list[str]
    """Sources in use at that moment: their turn comes next time."""

    def totals(self) -> dict[str, Any]:
        """Count, files, bytes and the oldest per kind."""
        kinds: dict[str, Any] = {}
        for kind in sorted({entry.kind for entry in self.entries}):
            mine = [entry for entry in self.entries if entry.kind == kind]
            oldest = min(entry.newest for entry in mine).isoformat()
            numbers = {"files": sum(one.files for one in mine), "bytes": sum(one.bytes for one in mine)}
            kinds[kind] = {"entries": len(mine), **numbers, "oldest": oldest}
        return kinds


def plan(storage: Storage, who: str = "") -> dict[str, Any]:
    """List what is due, keep the list as a file, and say so in the audit; the file and its hash are the answer."""
    policy, now = load_policy(), datetime.now(UTC)
    listed = due(storage, policy, now)
    path = storage.folder("maintenance") / f"{now:%Y%m%dT%H%M%S.%fZ}.json"
    write_json(path, listed.model_dump(mode="json"))
    told: dict[str, Any] = {
        "list": path.name,
        "sha256": sha256(path),
        "totals": listed.totals(),
        "findings": len(listed.findings),
    }
    audit.record(storage, "maintenance planned", "", who=who, held=listed.held, **told)
    return told


def due(storage: Storage, policy: Policy, now: datetime) -> Listed:
    """What is due now. Changes nothing."""
    look = Look(storage, policy, now)
    refuse_unknown_hold(look)
    entries, findings, busy = [*shared(look), *backups.due(storage, policy, now)], [*left_over(look)], list[str]()
    for source in known_sources(storage):
        try:
            with _alone(storage, source):
                mine, wrong = of_source(look, source)
        except TransientError:
            busy.append(source)
            continue
        except Exception as error:  # noqa: BLE001 - whatever is damaged there, other sources' old data must go
            findings.append(_not_known(source, error))
            continue
        entries += mine
        findings += wrong
    return Listed(made_at=now, held=policy.hold, entries=entries, findings=findings, busy=busy)


def _not_known(source: str, error: Exception) -> Finding:
    """Others' errors may hold what a file holds, so of those only the kind is told; the log has them."""
    log.error("%s: what is due of it is not known", source, exc_info=error)
    what = str(error) if isinstance(error, ExtractionError) else type(error).__name__
    return Finding(source=source, path=f"processed/{source}", what=f"nothing of this source goes: {what}")


def read_list(storage: Storage, name: str, digest: str) -> Listed:
    """The kept list, if it is still the one that was made."""
    path = storage.root / "maintenance" / plain_name(name)
    if not path.exists() or sha256(path) != digest:
        raise ConfigurationError(
            f"maintenance list {name!r} is missing or was changed; nothing was deleted; plan again"
        )
    return Listed.model_validate(read_json(path))


def delete(storage: Storage, name: str, digest: str, who: str = "") -> dict[str, Any]:
    """Delete what is in the list and is still due, by the rules as they are now; the rest stays. Say what went."""
    listed, gone = read_list(storage, name, digest), list[Entry]()
    look = Look(storage, load_policy(), datetime.now(UTC))
    refuse_unknown_hold(look)
    audit.record(storage, "maintenance begun", "", who=who, list=name, sha256=digest)
    try:
        for entry in _still_due(look, listed):
            gone += [entry] if _remove(storage, entry) else []
    finally:  # whatever ends it, the audit says what is gone
        went = listed.model_copy(update={"entries": gone})
        told: dict[str, Any] = {"list": name, "totals": went.totals(), "stayed": len(listed.entries) - len(gone)}
        audit.record(storage, "maintenance deleted", "", who=who, **told, paths=[entry.path for entry in gone])
    return told


def _still_due(look: Look, listed: Listed) -> Iterator[Entry]:
    """One after the other, each while nobody else is at work on its source."""
    still = [*shared(look), *backups.due(look.storage, look.policy, look.now)]
    yield from (entry for entry in listed.entries if not entry.source and entry in still)
    for source in sorted({entry.source for entry in listed.entries if entry.source}):
        wanted = [entry for entry in listed.entries if entry.source == source]
        try:
            with _alone(look.storage, source):
                still, _ = of_source(look, source)
                yield from (entry for entry in wanted if entry in still)
        except TransientError:
            log.warning("%s is in use: %d entries stay until the next time", source, len(wanted))
        except Exception:
            log.exception("%s: what is due of it is not known: %d entries stay", source, len(wanted))


@contextmanager
def _alone(storage: Storage, source: str) -> Iterator[None]:
    """No task of the source begins, and nothing of it is published, meanwhile. Does not wait for long."""
    lock = storage.folder("processed", source) / ".lock"
    with (
        gate(storage, source, "maintenance", wait_s=10),
        locked(lock, f"source {source!r}: its published data", "maintenance", wait_s=0),
    ):
        yield


def _remove(storage: Storage, entry: Entry) -> bool:
    path = storage.root / entry.path
    try:
        if entry.kind == "processed":
            _unpublish(storage, entry)
        elif path.is_dir():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)
    except (OSError, StorageError):
        log.exception("%s could not be deleted", entry.path)
        return False
    return True


def _unpublish(storage: Storage, entry: Entry) -> None:
    """As a publication: by a journal, which the next run finishes after a crash. The newest one says what went."""
    folder, staging = storage.root / "processed" / entry.source, storage.folder("staging", entry.source)
    name = Path(entry.path).relative_to(f"processed/{entry.source}").as_posix()
    gone, standing = manifest.read(folder / name), manifest.current(storage, entry.source)
    heir = max(standing, key=lambda one: one.published_at)  # the newest one stays
    heir = heir.model_copy(update={"covers": covers.of(heir.window, [gone, heir])})
    manifests = {name: None, manifest.path_of(heir.window): heir.model_dump(mode="json")}
    files = [file.path for file in gone.files]
    journal.write(staging, journal.Journal(renames={}, manifests=manifests, removals=files))
    journal.finish(staging, folder)
