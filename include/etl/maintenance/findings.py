"""Finds what is not in order, for a person to look at."""

from __future__ import annotations

from collections.abc import Iterator

from include.etl import quarantine
from include.etl.handover import Handover
from include.etl.maintenance.look import Look, changed
from include.etl.publication import journal
from include.etl.records.manifest import FOLDER, Manifest
from include.etl.sources import load_sources


class Finding(Handover):
    """Something that is not in order, for a person to look at."""

    source: str
    path: str
    what: str


def left_over(look: Look) -> Iterator[Finding]:
    """What was left by a process that was killed, or set aside, or by a source that is configured no more."""
    root, configured = look.storage.root, {one.source for one in load_sources()}
    places = {
        ".drill": "left by a drill that was killed; delete it",
        "backups/.making": "left by a backup that was killed; the next one uses it",
        "damaged/*": "set aside as damaged; delete it once nobody needs it",
    }
    for pattern, what in places.items():
        for path in sorted(root.glob(pattern)):
            if look.now - changed(path) > look.policy.longest_run:
                yield Finding(source="", path=look.storage.relative(path), what=what)
    for path in sorted(root.glob(f"processed/*/{FOLDER}")):
        if path.parent.name not in configured:
            where, what = (
                look.storage.relative(path.parent),
                "its source is configured no more; nothing of it is deleted",
            )
            yield Finding(source=path.parent.name, path=where, what=what)


def overdue(look: Look, undecided: list[quarantine.Quarantine]) -> Iterator[Finding]:
    """Rows set aside that nobody has decided about. They may be published nowhere else, so age alone deletes none."""
    for one in undecided:
        if look.due("quarantine", one.set_aside_at):
            what = f"{one.rows} rows set aside are older than keep, and neither released nor dropped; decide on them"
            yield Finding(source=one.source, path=f"quarantine/{one.source}/{one.run_key}", what=what)


def disagreements(look: Look, source: str, manifests: list[Manifest]) -> Iterator[Finding]:
    """Where the published files and the manifests that list them differ."""
    root = look.storage.root
    pending = root / "staging" / source / journal.NAME
    if pending.exists():  # files are on their way: what is listed and what is there need not agree
        if look.now - changed(pending) > look.policy.longest_run:
            where, what = look.storage.relative(pending), "a publication was stopped; the next run finishes it"
            yield Finding(source=source, path=where, what=what)
        return
    folder = root / "processed" / source
    listed = {file.path for one in manifests for file in one.files}
    for missing in sorted(listed):
        if not (folder / missing).exists():
            yield Finding(
                source=source, path=f"processed/{source}/{missing}", what="a manifest lists it; it is missing"
            )
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and path.name[0] != "." and not name.startswith(FOLDER) and name not in listed:
            yield Finding(source=source, path=look.storage.relative(path), what="no manifest lists it")
