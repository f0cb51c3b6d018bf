"""Checks publications again, any time: the files against the manifest, and the rows against the source as it is now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from include.etl import cursor as cursors
from include.etl import duck, key_equality
from include.etl.completeness import versions
from include.etl.completeness.extraction import NOT_COUNTED, fields_of
from include.etl.completeness.publication import READ, WRITTEN, of_format, published_fields
from include.etl.completeness.totals import Totals, comparable, differences, of_source
from include.etl.engines import open_source
from include.etl.errors import ConfigurationError, ExtractionError, StorageError
from include.etl.handover import DELETED_AT, KeyEquality, Window, written
from include.etl.phases.extract import windowed
from include.etl.publication import files, journal
from include.etl.publication.files import cursor_text
from include.etl.query import build
from include.etl.records import manifest as manifests
from include.etl.records.covers import rank
from include.etl.records.manifest import AGAIN, OWN, Manifest, PublishedFile
from include.etl.records.run import Run
from include.etl.storage import remove_folder, sha256

LATEST_ALONE = "older version or duplicate"
"""Why a former release removed rows with `load: append`, which publishes every version now."""
FORMER_RELEASE = (
    "a former release, which published the latest version of each key alone (a run with mode full mends it)"
)

Verdict = Literal["verified", "different", "not checked"]


@dataclass
class Finding:
    """What was found of one publication."""

    window: str
    differences: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    """What could not be checked, and why."""
    notes: list[str] = field(default_factory=list)
    """What differs, and may."""

    @property
    def verdict(self) -> Verdict:
        """A difference counts more than what could not be checked."""
        return "different" if self.differences else "not checked" if self.unchecked else "verified"


def verify(run: Run, which: str = "latest") -> list[Finding]:
    """Check the publication of a window, the latest one, or all.

    Raises:
        ConfigurationError: there is no such publication.
    """
    with run.storage.lock(run.source.source, f"verify of {run.source.source}", shared=True):
        found = manifests.current(run.storage, run.source.source)
        chosen = _chosen(run, found, which)
        if (run.storage.folder("staging", run.source.source) / journal.NAME).exists():
            why = "a publication was stopped in the middle; the source's next run finishes it"
            return [Finding(one.window.name, unchecked=[why]) for one in chosen]
        checked = [(one, Finding(one.window.name, list(_of_files(run, one))), _held(run, one, found)) for one in chosen]
    for one, finding, held in checked:
        try:
            _compare_source(run, one, finding, held)
        except ExtractionError as error:
            finding.unchecked.append(f"the source could not be asked: {error}")
    return [finding for _, finding, _ in checked]


def _chosen(run: Run, found: Sequence[Manifest], which: str) -> list[Manifest]:
    if which == "all" and found:
        return list(found)
    if which == "latest" and found:
        return [max(found, key=lambda one: one.published_at)]
    chosen = [one for one in found if one.window.name == which]
    if not chosen:
        names = ", ".join(one.window.name for one in found) or "nothing is published yet"
        raise ConfigurationError(f"source {run.source.source!r}: window {which!r}; allowed: latest, all, {names}")
    return chosen


def _of_files(run: Run, manifest: Manifest) -> Iterator[str]:
    """Differences between the files and the manifest, and of the manifest with itself."""
    rows, folder = manifest.rows, manifests.published_folder(run.storage, manifest.source)
    if rows.extracted - sum(rows.removed.values()) != rows.published:
        yield f"manifest: {rows.extracted} extracted less {sum(rows.removed.values())} removed are not {rows.published}"
    damaged = [line for file in manifest.files for line in _of_bytes(folder, file)]
    yield from damaged
    if damaged:
        return
    fields = published_fields(run.source, files.schema_of(manifest))
    with duck.session(run.source.memory_limit_mb, run.records / ".scratch") as connection:
        for name in dict.fromkeys(file.format for file in manifest.files):
            try:
                found = of_format(connection, folder, manifest, name, fields)
            except StorageError as error:
                yield str(error)
                continue
            yield from (f"{name} files: {line}" for line in _of_totals(manifest, name, found))


def _of_bytes(folder: Path, file: PublishedFile) -> Iterator[str]:
    path = folder / file.path
    if not path.exists():
        yield f"file {file.path} is gone"
    elif path.stat().st_size != file.bytes:
        yield f"file {file.path}: {file.bytes} bytes were published, it has {path.stat().st_size}"
    elif sha256(path) != file.sha256:
        yield f"file {file.path}: its content has changed (SHA-256)"


def _of_totals(manifest: Manifest, name: str, found: Totals) -> list[str]:
    """Against the manifest's rows; and against its checksums, as long as no later publication took rows over."""
    left = manifest.rows.published + manifest.kept + manifest.deleted - manifest.replaced_later
    if found.rows != left:
        return [f"rows: {left} by the manifest, {found.rows} in the files"]
    links = [check for check in manifest.completeness.checks if check.link == WRITTEN.format(name)]
    return [] if manifest.replaced_later else [line for one in links for line in _known(one.found, found.shown())]


def _known(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Differences in what both have: the columns to sum up may have been chosen anew, and be summed up otherwise."""
    columns = now.get("columns", {})
    both = {name: one for name, one in then.get("columns", {}).items() if name in columns}
    counted = {name: {**columns[name], "values": both[name]["values"]} for name in _by_other_hashes(then, now)}
    return differences({"rows": then["rows"], "columns": {**both, **counted}}, now)


def _by_other_hashes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Columns whose checksums cannot be compared; that of text was taken by MD5 once."""
    columns = now.get("columns", {})
    return [name for name, one in then.get("columns", {}).items() if not comparable(one, columns.get(name, one))]


def _held(run: Run, manifest: Manifest, everything: Sequence[Manifest]) -> int | None:
    """Rows published with a cursor value in the window, by whichever publication, and those removed on purpose.

    None where files are missing: that is a difference already.
    """
    removed = sum(_on_purpose(manifest).values())
    if run.source.cursor is None:
        return manifest.rows.published + removed
    folder, held = manifests.published_folder(run.storage, manifest.source), removed
    try:
        for one in everything:
            listed = [file for file in one.files if file.format == one.files[0].format]
            held += sum(_within(run, manifest.window, folder, one, file) for file in listed)
    except ExtractionError:
        return None
    return held


def _on_purpose(manifest: Manifest) -> dict[str, int]:
    return {why: count for why, count in manifest.rows.removed.items() if not why.startswith(AGAIN)}


def _within(run: Run, window: Window, folder: Path, manifest: Manifest, file: PublishedFile) -> int:
    """Rows of a file whose cursor value lies in the window."""
    if manifest.cursor is None:
        return 0
    kind = files.schema_of(manifest).field(manifest.cursor).type
    start, end = (cursors.bound(moment, kind, run.source) for moment in (window.read_from, window.end))
    low, high = cursor_text(start), cursor_text(end)  # type: ignore[arg-type]
    if file.cursor_min is not None and not file.cursor_missing and high is not None:
        if file.cursor_min >= high or (low is not None and str(file.cursor_max) < low):
            return 0
        if str(file.cursor_max) < high and (low is None or file.cursor_min >= low):
            return file.rows - file.deleted
    return sum(_count(_alive(batch), manifest.cursor, start, end) for batch in files.read(folder, manifest, file))


def _alive(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows that are not marked as deleted."""
    marked = DELETED_AT in batch.schema.names
    return batch.filter(pc.is_null(batch.column(DELETED_AT))) if marked else batch


def _count(batch: pa.RecordBatch, cursor: str, start: Any, end: Any) -> int:
    column = batch.column(cursor)
    inside = pc.less(column, pa.scalar(end, column.type))
    if start is not None:
        inside = pc.and_(inside, pc.greater_equal(column, pa.scalar(start, column.type)))
    missing = column.null_count if start is None else 0
    return int(pc.sum(inside).as_py() or 0) + missing


def _compare_source(run: Run, manifest: Manifest, finding: Finding, held: int | None) -> None:
    """Rows can leave a window that has been read (updated later, deleted), but none may have come."""
    source, window = run.source, manifest.window
    if not source.verify.count:
        finding.unchecked.append(NOT_COUNTED)
        return
    if held is None:
        return
    if (
        source.cursor and source.schedule.incremental and window.mode == "full"
    ):  # what has been written since is not what that run read
        window = Window(mode="incremental", end=window.end)
    elif window.mode == "incremental" and window.read_from is not None:
        # rows without cursor, which every run reads, tell nothing
        window = window.model_copy(update={"mode": "range"})
    engine = open_source(source, f"moh-etl {source.source} verify")
    folder = run.storage.fresh_folder("interim", source.source, f"{run.key}-versions")
    keys: Mapping[str, KeyEquality] = {}
    try:
        with engine.session() as session:
            query = windowed(source, engine, session, window)
            origins = session.origins(build(source, engine.dialect, Window(mode="full", end=window.end)))
            now = of_source(engine, session, query, fields_of(source, session.schema(query)))
            if source.primary_key:
                keys = key_equality.of_source(source, session, query)
                versions.read(source, engine, session, query, folder)
            finding.unchecked += [*session.unpinned, *origins.unchecked, *origins.hidden]
        finding.unchecked += key_equality.untold(source, keys)
        found, why = _looked_up(run, window, folder, keys)
    finally:
        remove_folder(folder)
    finding.unchecked += _unknown_hashes(manifest, now)
    if found is None:
        _judge_numbers(manifest, finding, held, now, why)
    else:
        _judge_versions(run, manifest, finding, found, now)


def _looked_up(
    run: Run, window: Window, folder: Path, keys: Mapping[str, KeyEquality]
) -> tuple[versions.Lookup | None, str]:
    """Which of the source's rows are published; None with the reason where rows cannot be told apart."""
    if not run.source.primary_key:
        return None, "without primary_key"
    try:
        found = versions.look_up(run, window, folder, keys)
    except ConfigurationError:
        if not run.source.transform.steps:
            raise
        found = None
    changed = found is None or (found.rows and found.gone and found.missing + found.aside == found.rows)
    if run.source.transform.steps and changed:
        return None, "since transform.steps seem to change key or cursor"
    return found, ""


def _judge_versions(run: Run, manifest: Manifest, finding: Finding, found: versions.Lookup, now: Totals) -> None:
    """Each row of the source has been looked up by key and cursor value."""
    excused = _left_out(run, manifest)
    if found.aside:
        finding.notes.append(f"{found.aside} rows that the source holds are not published: they are set aside")
    if found.gone:
        finding.notes.append(f"{found.gone} published rows are not in the source as such: updated or deleted since")
    if found.missing and run.source.cursor is None:
        finding.unchecked.append(
            f"{found.missing} of {found.rows} rows that the source holds are not published: without a cursor new rows "
            "cannot be told from missed ones; the next full run publishes both"
        )
    elif found.missing > sum(excused.values()):
        finding.differences.append(
            f"the source holds {found.rows} rows in this window, but {found.missing} of them were not published: they "
            f"came after it was read{_or_else(excused)}. {_read_again(manifest)}"
        )
    elif found.missing and not _as_read(manifest, now):
        reasons = " or ".join(f"{why} ({rows})" for why, rows in excused.items())
        finding.unchecked.append(
            f"{found.missing} of {found.rows} rows that the source holds in this window are not published: left out on "
            f"purpose by {reasons}, or come after it was read, which cannot be told. {_read_again(manifest)}"
        )
    elif changed := _changed(manifest, now) if not (found.gone or manifest.replaced_later) else []:
        finding.differences += [f"source now: {line} (changed there without a new cursor value)" for line in changed]
    else:
        rest = f"; {found.missing} left out on purpose, as when it was read" if found.missing else ""
        by = _compared(run, manifest, now)
        finding.notes.append(f"the source holds {found.rows} rows, and all are published, by {by}{rest}")


def _compared(run: Run, manifest: Manifest, now: Totals) -> str:
    """What was compared: under the same key and cursor value, another row looks the same."""
    looked_up = "key and cursor value" if run.source.cursor else "key"
    if _as_read(manifest, now):
        return f"{looked_up} and the checksums of verify.columns"
    return f"{looked_up}; other values were not compared"


def _left_out(run: Run, manifest: Manifest) -> dict[str, int]:
    """How many rows may be missing on purpose, where it was not recorded which: of all windows that meet this one."""
    meeting = [one for one in manifests.current(run.storage, run.source.source) if _meet(one.window, manifest.window)]
    steps = sum(one.rows.removed.get(OWN, 0) for one in meeting)
    append = run.source.load == "append"
    excused = {
        "transform.steps": steps,
        FORMER_RELEASE: sum(one.rows.removed.get(LATEST_ALONE, 0) for one in meeting if append),
        "a decision to drop them": versions.dropped(run.storage, run.source.source),
    }
    return {why: rows for why, rows in excused.items() if rows}


def _or_else(excused: dict[str, int]) -> str:
    return f" (at most {sum(excused.values())} were left out on purpose: {', '.join(excused)})" if excused else ""


def _meet(one: Window, other: Window) -> bool:
    """Whether two windows may hold the same rows."""
    if isinstance(one.end, int) != isinstance(other.end, int):
        return True
    return rank(one.read_from) < rank(other.end) and rank(other.read_from) < rank(one.end)


def _judge_numbers(manifest: Manifest, finding: Finding, held: int, now: Totals, why: str) -> None:
    """Only numbers of rows, and checksums, can be compared."""
    if now.rows == manifest.rows.extracted and (changed := _changed(manifest, now)):
        finding.differences += [f"source now: {line} (rows were changed, or replaced by others)" for line in changed]
    elif now.rows > held:
        finding.differences.append(
            f"the source holds {now.rows} rows in this window, {held} were published or left out for a reason: some "
            f"came after it was read. {_read_again(manifest)}"
        )
    elif _as_read(manifest, now):
        finding.notes.append(f"the source holds {now.rows} rows, with the checksums of when they were read")
    elif now.rows == held:
        finding.notes.append(f"the source holds {now.rows} rows, as many as were published; only numbers tell {why}")
    else:
        finding.unchecked.append(
            f"the source holds {now.rows} rows in this window, of {held} that were read: whether others came while "
            f"these left cannot be told {why}"
        )


def _unknown_hashes(manifest: Manifest, now: Totals) -> list[str]:
    """Columns whose checksums cannot be compared, where they would be."""
    then = [one for one in manifest.completeness.checks if one.link == READ]
    if not then or now.rows != manifest.rows.extracted:
        return []
    return [
        f"column {name!r}: its checksum was recorded by another hash than is taken now: whether its text has "
        "changed in the source is not known. A run that reads the window again records it anew"
        for name in _by_other_hashes(then[0].found, now.shown())
    ]


def _changed(manifest: Manifest, now: Totals) -> list[str]:
    """How the source's checksums differ from when the window was read, if it still holds as many rows."""
    then = [one for one in manifest.completeness.checks if one.link == READ]
    return _known(then[0].found, now.shown()) if then and now.rows == manifest.rows.extracted else []


def _as_read(manifest: Manifest, now: Totals) -> bool:
    """Whether the source shows the rows and checksums of when the window was read; numbers of rows alone do not."""
    then = [one for one in manifest.completeness.checks if one.link == READ]
    compared = bool(then) and bool(then[0].found.get("columns", {}).keys() & now.shown().get("columns", {}).keys())
    same = now.rows == manifest.rows.extracted and not _unknown_hashes(manifest, now)
    return compared and same and not _changed(manifest, now)


def _read_again(manifest: Manifest) -> str:
    window = manifest.window
    since = f"--start {written(window.read_from)} " if window.read_from is not None else "--mode full"
    until = f"--end {written(window.end)}" if window.read_from is not None else ""
    return f"Read it again: scripts/run_extraction.py --sources {manifest.source} {since}{until}"
