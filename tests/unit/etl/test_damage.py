"""What is wrong with a published folder is found, named and told apart from what only looks like it."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.etl.handover import Window
from include.etl.publication import journal
from include.etl.records.manifest import PublishedFile, path_of
from include.etl.recovery import damage
from include.etl.storage import Storage, sha256, write_json
from tests.unit.etl.test_spans import publication

WINDOW = Window(mode="range", start=1, end=9)
FILES = ("day=1/a.parquet", "day=1/a.csv", "day=2/b.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A published folder in which all is well."""
    found = Storage(tmp_path).folder("processed", "visits")
    listed = []
    for name in FILES:
        path = found / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"rows of {name}")
        facts = {"format": path.suffix[1:], "bytes": path.stat().st_size, "sha256": sha256(path)}
        listed.append(PublishedFile(path=name, partition=path.parent.name, rows=3, **facts))  # type: ignore[arg-type]
    write_json(found / path_of(WINDOW), publication(WINDOW, *listed).model_dump(mode="json"))
    return found


def find(folder: Path) -> damage.Damage:
    return damage.find(Storage(folder.parents[1]), "visits")


def spoilt(found: damage.Damage) -> list[str]:
    return [file.path for _, file in found.files]


def test_nothing_is_wrong(folder: Path) -> None:
    for name in (".lock", "day=1/.a.parquet.tmp", "_manifests/.x.json"):
        (folder / name).touch()
    found = find(folder)
    assert (found.lines, [one.window for one in found.standing]) == ([], [WINDOW])


@pytest.mark.parametrize("content", [None, "shorter", "Rows of day=1/a.parquet"], ids=["gone", "short", "changed"])
def test_a_spoilt_file_takes_its_partition_s_other_formats_with_it(folder: Path, content: str | None) -> None:
    path = folder / FILES[0]
    path.unlink() if content is None else path.write_text(content)
    found = find(folder)
    assert spoilt(found) == list(FILES[:2])
    assert found.lines[0] == f"file {FILES[0]} is gone or changed (3 rows)"
    assert (found.strangers, found.manifests, found.journal) == ([], [], False)


def test_a_manifest_that_is_damaged_leaves_its_files_without_one(folder: Path) -> None:
    (folder / path_of(WINDOW)).write_text("{")
    found = find(folder)
    assert (found.manifests, found.standing) == ([path_of(WINDOW)], [])
    assert sorted(found.strangers) == sorted(FILES)
    assert found.lines[0] == f"manifest {path_of(WINDOW)} cannot be understood"
    assert found.lines[-1] == f"file {found.strangers[-1]} is listed in no manifest"


@pytest.mark.parametrize("whole", [True, False])
def test_a_publication_that_was_stopped_is_no_damage_unless_its_list_is(folder: Path, whole: bool) -> None:
    """Until it is finished, files that are gone or not listed are as they should be."""
    staging = Storage(folder.parents[1]).folder("staging", "visits")
    journal.write(staging, journal.Journal(renames={}, manifests={}, removals=[]))
    if not whole:
        (staging / journal.NAME).write_text("[]")
    (folder / FILES[0]).unlink()
    (folder / "day=2/other.parquet").touch()
    found = find(folder)
    assert found.journal is not whole
    assert spoilt(found) == ([] if whole else list(FILES[:2]))
    assert found.strangers == ([] if whole else ["day=2/other.parquet"])
    assert len(found.standing) == 1
    assert bool(found.lines) is not whole
    assert whole or found.lines[-1] == "a stopped publication cannot be finished: its journal is damaged"


def test_spoilt_files_of_every_publication_are_found(folder: Path) -> None:
    later = Window(mode="range", start=9, end=12)
    lost = PublishedFile(path="day=3/c.parquet", format="parquet", rows=1, bytes=1, sha256="")
    write_json(folder / path_of(later), publication(later, lost).model_dump(mode="json"))
    (folder / FILES[2]).unlink()
    found = find(folder)
    assert {(one.window.name, file.path) for one, file in found.files} == {
        (WINDOW.name, FILES[2]),
        (later.name, lost.path),
    }
