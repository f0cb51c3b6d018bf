"""`load: merge`: one current row per key across all publications; only files that hold an older version change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.etl.errors import ConfigurationError
from include.etl.publication.keys import Keys
from include.etl.publication.rows import PublishedRows
from include.etl.records import manifest
from include.etl.run import Result
from include.etl.storage import Storage
from tests.integration.conftest import VISITS, Project

INSERT = "INSERT INTO visits VALUES (?, ?, '1.00', ?, ?)"
MERGE = VISITS + "load: merge\n"
DAY = {"start": "2024-01-01", "end": "2024-01-02T00:00:00Z"}
NEXT_DAY = {"start": "2024-01-02T00:00:00Z", "end": "2024-01-03T00:00:00Z"}


@pytest.fixture
def merging(project: Project) -> Project:
    project.configure(MERGE)
    return project


def put(project: Project, number: int | None, updated: str | None, note: str = "fine", day: str = "2024-01-01") -> None:
    project.execute("DELETE FROM visits WHERE visit_id = ?", [(number,)])
    project.execute(INSERT, [(number, day, note, updated)])


def notes(project: Project) -> list[tuple[Any, ...]]:
    return project.rows("visit_id, note, visit_date::TEXT")


def test_changed_row_leaves_its_old_partition_and_no_other_file_is_touched(merging: Project) -> None:
    for number in range(1, 5):
        put(merging, number, "2024-01-01 08:00:00", day=f"2024-01-0{number}")
    first = merging.run(**DAY)
    before = merging.files()
    put(merging, 2, "2024-01-02 09:00:00", "moved", "2024-01-04")
    merging.run(**NEXT_DAY)
    assert [row for row in notes(merging) if row[0] == 2] == [(2, "moved", "2024-01-04")]
    after = merging.files()
    touched = {name for name, content in before.items() if after.get(name) != content}
    assert touched == {f"visit_date=2024-01-02/{first.paths[1].name}", manifest.path_of(first.publication.window)}
    assert not (merging.published / "visit_date=2024-01-02").exists()
    kept = manifest.read(merging.published / manifest.path_of(first.publication.window))
    assert (kept.rows.published, kept.replaced_later, sum(file.rows for file in kept.files)) == (4, 1, 3)


def test_older_version_never_replaces_a_newer_one(merging: Project) -> None:
    """A table that keeps its history gives an old version when an old window is read."""
    merging.execute(INSERT, [(1, "2024-01-01", "old", "2024-01-01 08:00:00")])
    merging.execute(INSERT, [(1, "2024-01-02", "new", "2024-01-02 08:00:00")])
    merging.run(**NEXT_DAY)
    result = merging.run(**DAY)
    assert notes(merging) == [(1, "new", "2024-01-02")]
    assert result.manifest["rows"] == {
        "extracted": 1,
        "removed": {"published before, in this version or a newer one": 1},
        "published": 0,
    }


def test_of_equal_cursors_the_one_read_later_stays(merging: Project) -> None:
    put(merging, 1, "2024-01-01 08:00:00")
    merging.run(**DAY)
    put(merging, 1, "2024-01-01 08:00:00", "corrected")
    merging.run(start="2024-01-01T07:00:00Z", end="2024-01-01T20:00:00Z")
    assert notes(merging) == [(1, "corrected", "2024-01-01")]


def test_no_cursor_counts_as_the_oldest(merging: Project) -> None:
    put(merging, 1, None, "unknown")
    put(merging, 2, None, "unknown")
    merging.run()
    put(merging, 1, "2024-01-01 08:00:00", "known")
    merging.run(**DAY)
    assert notes(merging) == [(1, "known", "2024-01-01"), (2, "unknown", "2024-01-01")]


def test_run_again_keeps_rows_that_moved_to_a_window_not_read_yet(merging: Project) -> None:
    put(merging, 1, "2024-01-01 08:00:00")
    put(merging, 2, "2024-01-01 08:00:00")
    merging.run(**DAY)
    put(merging, 1, "2024-01-02 08:00:00", "later")
    result = merging.run(**DAY)
    assert notes(merging) == [(1, "fine", "2024-01-01"), (2, "fine", "2024-01-01")]
    assert (result.manifest["rows"]["published"], result.manifest["kept"]) == (1, 1)
    merging.run(**NEXT_DAY)
    assert notes(merging) == [(1, "later", "2024-01-01"), (2, "fine", "2024-01-01")]


def test_what_a_lookback_merely_read_again_rewrites_nothing(merging: Project) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    put(merging, 1, str(now - timedelta(minutes=30)))
    merging.run()
    before = merging.files()
    assert merging.run().manifest["rows"]["published"] == 0
    assert before.items() <= merging.files().items()


def test_rows_without_a_whole_key_are_all_kept_once(merging: Project) -> None:
    merging.execute(INSERT, [(None, "2024-01-01", note, "2024-01-01 08:00:00") for note in "ab"])
    merging.execute(INSERT, [(None, "2024-01-01", "c", "2024-01-01 09:00:00")])
    merging.run()
    merging.run(**DAY)
    merging.run(start="2024-01-01", end="2024-01-01T08:30:00Z")
    assert [note for _, note, _ in sorted(notes(merging), key=str)] == ["a", "b", "c"]


@pytest.mark.parametrize("formats", ["csv", "excel", "excel, parquet"])
def test_every_format_can_be_merged(project: Project, formats: str) -> None:
    project.configure(MERGE.replace("[parquet]", f"[{formats}]"))
    for number in range(1, 4):
        put(project, number, "2024-01-01 08:00:00")
    first = project.run(**DAY)
    put(project, 2, "2024-01-02 08:00:00", "new")
    second = project.run(**NEXT_DAY)
    path = project.published / manifest.path_of(first.publication.window)
    old = Result(Storage.from_environment(), first.plan, manifest.read(path))
    assert {file.format for file in old.publication.files} == set(formats.split(", "))
    assert all(file.rows == 2 for file in old.publication.files)
    assert sorted(old.to_arrow().column("visit_id").to_pylist()) == [1, 3]
    assert second.to_arrow().column("note").to_pylist() == ["new"]


def test_key_that_is_the_partition_column(project: Project) -> None:
    """Parquet files leave that column out: it is taken from the folder."""
    project.configure(MERGE.replace("[visit_id]", "[visit_id, visit_date]"))
    for day in ("2024-01-01", "2024-01-02"):
        project.execute(INSERT, [(1, day, "old", "2024-01-01 08:00:00")])
    project.run(**DAY)
    project.execute(
        "UPDATE visits SET note = 'new', updated_at = '2024-01-02 08:00:00' WHERE visit_date > '2024-01-01'"
    )
    project.run(**NEXT_DAY)
    assert notes(project) == [(1, "new", "2024-01-02"), (1, "old", "2024-01-01")]


def test_only_key_columns_of_parquet_are_read_to_find_the_files(
    merging: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 4):
        put(merging, number, "2024-01-01 08:00:00", day=f"2024-01-0{number}")
    merging.run(**DAY)
    read: list[str] = []
    register = PublishedRows.register
    monkeypatch.setattr(PublishedRows, "register", lambda *a: (read.append(a[2].partition), register(*a))[1])
    monkeypatch.setattr(Keys, "_as_parquet", None)
    put(merging, 3, "2024-01-02 08:00:00")
    merging.run(**NEXT_DAY)
    assert set(read) == {"2024-01-03"}


def test_changed_key_asks_for_a_full_run(merging: Project) -> None:
    put(merging, 1, "2024-01-01 08:00:00")
    merging.run(**DAY)
    merging.configure(MERGE.replace("[visit_id]", "[code]"))
    merging.execute("ALTER TABLE visits ADD COLUMN code TEXT DEFAULT 'x'")
    with pytest.raises(ConfigurationError, match="run once with mode full"):
        merging.run(**NEXT_DAY)
    merging.run(mode="full")
    merging.run(**NEXT_DAY)
    assert merging.rows("code") == [("x",)]
