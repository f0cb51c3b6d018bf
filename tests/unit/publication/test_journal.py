"""A publication that was written down stands whole from then on, and is finished from wherever it was stopped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.etl.errors import StorageError
from include.etl.handover import Window
from include.etl.publication import journal, standing
from include.etl.publication.journal import Journal
from include.etl.records.manifest import Manifest, PublishedFile, path_of
from include.etl.storage import Storage, write_json
from tests.unit.etl.test_spans import publication

NOW = datetime(2024, 3, 9, tzinfo=UTC)
OLD, HEIR, NEW = (Window(mode="range", start=low, end=low + 10) for low in (10, 20, 30))


class Stopped(BaseException):
    """As if the process had been killed."""


def of(window: Window, *paths: str, reason: str = "") -> Manifest:
    files = [PublishedFile(path=path, format="parquet", rows=1, bytes=1, sha256="") for path in paths]
    return publication(window, *files).model_copy(update={"published_at": NOW, "reason": reason})


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def content(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file() and "_manifests" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


class Prepared:
    """A source with two publications, and a third one in its staging folder that changes both, written down."""

    def __init__(self, root: Path) -> None:
        self.storage = Storage(root)
        self.folder, self.staging = self.storage.folder("processed", "visits"), self.storage.folder("staging", "visits")
        self.aside = self.storage.folder("quarantine", "visits", "run")
        write(self.folder, {"day=1/old": "old", "day=2/kept": "kept", "day=2/again": "before"})
        for one in (of(OLD, "day=1/old"), of(HEIR, "day=2/kept", "day=2/again", reason="before")):
            write_json(self.folder / path_of(one.window), one.model_dump(mode="json"))
        write(self.staging, {"new/day=3/new": "new", "rewritten/day=2/again": "after"})
        write(self.aside, {"rows.parquet": "before", "next/rows.parquet": "after"})
        changed = of(HEIR, "day=2/kept", "day=2/again", reason="after"), of(NEW, "day=3/new", reason="new")
        manifests: dict[str, Any] = {path_of(one.window): one.model_dump(mode="json") for one in changed}
        listed = Journal(
            renames={"new/day=3/new": "day=3/new"},
            manifests={**manifests, path_of(OLD): None},
            rewrites={"rewritten/day=2/again": "day=2/again"},
            removals=["day=1/old"],
            set_aside="quarantine/visits/run",
        )
        journal.write(self.staging, listed)

    def reader_sees(self) -> dict[str, str]:
        """Path -> content of what stands, with each publication's reason."""
        found = standing.look(self.storage, "visits")
        files = [file for one in found.manifests for file in one.files]
        told = {one.window.name: one.reason for one in found.manifests}
        return told | {file.path: (found.folder_of(file) / file.path).read_text() for file in files}


AFTER = {"day=2/kept": "kept", "day=2/again": "after", "day=3/new": "new"}
TOLD = {HEIR.name: "after", NEW.name: "new"}


CHANGES = [
    *("publish", "write_json", "write_json", "_remove", "publish", "_remove"),
    *("adopt", "_remove", "remove_folder"),
]


def stop_before(number: int, patch: pytest.MonkeyPatch) -> list[str]:
    """Every change of the disk counts; the process dies before this one."""
    made: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        before = getattr(journal, name)

        def change(*arguments: Any) -> Any:
            if len(made) == number:
                raise Stopped
            made.append(name)
            return before(*arguments)

        return change

    for name in ("publish", "write_json", "_remove", "adopt", "remove_folder"):
        patch.setattr(journal, name, counted(name))
    return made


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_stopped_before_any_change_it_stands_whole_and_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    one = Prepared(tmp_path)
    assert one.reader_sees() == AFTER | TOLD
    with monkeypatch.context() as patch:
        stop_before(number, patch)
        with pytest.raises(Stopped):
            journal.finish(one.staging, one.folder)
    assert one.reader_sees() == AFTER | TOLD
    journal.finish(one.staging, one.folder)
    assert content(one.folder) == AFTER
    assert one.reader_sees() == AFTER | TOLD
    assert not one.staging.exists()
    assert not (one.folder / "day=1").exists(), "of a partition without files no folder stays"
    assert content(one.aside) == {"rows.parquet": "after"}


def test_new_rows_and_their_manifest_appear_before_old_copies_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who lists the folder in between finds rows twice, but misses none."""
    one = Prepared(tmp_path)
    made = stop_before(99, monkeypatch)
    journal.finish(one.staging, one.folder)
    assert made == CHANGES


def test_only_a_partition_without_files_loses_its_folder(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    folder, staging = storage.folder("processed", "visits"), storage.folder("staging", "visits")
    write(folder, {"plain/only": "", "day=1/only": "", "day=2/one": "", "day=2/other": ""})
    listed = Journal(renames={}, manifests={}, removals=["plain/only", "day=1/only", "day=2/one", "day=7/was gone"])
    journal.write(staging, listed)
    journal.finish(staging, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["day=2", "plain"]


def test_what_is_not_listed_is_only_cleared(tmp_path: Path) -> None:
    one = Prepared(tmp_path)
    (one.staging / journal.NAME).unlink()
    before = content(one.folder)
    assert (standing.look(one.storage, "visits").staged, journal.pending(one.staging)) == ({}, None)
    journal.finish(one.staging, one.folder)
    assert (content(one.folder), one.staging.exists()) == (before, False)
    assert content(one.aside)["rows.parquet"] == "before"
    journal.finish(one.staging, one.folder)  # nothing to clear


@pytest.mark.parametrize("gone", ["new/day=3/new", "rewritten/day=2/again"])
def test_a_listed_file_that_is_nowhere_is_told(tmp_path: Path, gone: str) -> None:
    one = Prepared(tmp_path)
    (one.staging / gone).unlink()
    (one.folder / "day=2/again").unlink()
    with pytest.raises(StorageError, match=f"{gone}.* is gone and was not published"):
        journal.finish(one.staging, one.folder)
    assert (one.staging / journal.NAME).exists(), "for whoever looks at it"


def test_a_damaged_list_is_told_and_kept(tmp_path: Path) -> None:
    one = Prepared(tmp_path)
    write_json(one.staging / journal.NAME, {"renames": {}})
    with pytest.raises(StorageError, match="is damaged; the publication it belongs to cannot be finished"):
        journal.finish(one.staging, one.folder)
    assert (one.staging / "new/day=3/new").exists()


def test_what_an_earlier_try_of_a_run_published_is_found(tmp_path: Path) -> None:
    one = Prepared(tmp_path)
    for dag, run in (("visits", "r"), ("other", "r"), ("visits", "other")):
        found = standing.of_run(one.storage, "visits", dag, run)
        assert (found is not None) == ((dag, run) == ("visits", "r"))
