"""What readers of the published folder see, whatever windows overlap and wherever a run is stopped."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from include.etl import storage
from include.etl.engines.sqlite import SqliteSession
from include.etl.errors import ConfigurationError, DataError, StorageError
from include.etl.handover import Plan, Slice, Validated
from include.etl.phases.extract import extract
from include.etl.phases.load import load
from include.etl.phases.plan import plan
from include.etl.phases.request import Parameters, Trigger
from include.etl.phases.transform import transform
from include.etl.publication import journal
from include.etl.records.checkpoint import Checkpoint
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage
from tests.integration.conftest import VISITS, Project

INSERT = "INSERT INTO visits VALUES (?, ?, ?, ?, ?)"
FIRST = datetime(2024, 1, 1, 8)


def visit(number: int, updated: datetime, day: int = 1, note: str = "fine") -> tuple[Any, ...]:
    return (number, f"2024-01-{day:02d}", "12.30", note, updated.isoformat(sep=" "))


def some_visits(count: int) -> list[tuple[Any, ...]]:
    return [visit(number, FIRST + timedelta(hours=number), 1 + number % 5) for number in range(count)]


def test_first_run_publishes_every_row_partitioned(project: Project) -> None:
    project.execute(INSERT, some_visits(50))
    result = project.run()
    assert result.manifest["rows"] == {"extracted": 50, "removed": {}, "published": 50}
    assert [row[0] for row in project.rows()] == list(range(50))
    assert {path.parent.name for path in result.paths} == {f"visit_date=2024-01-0{day}" for day in range(1, 6)}
    assert pd.read_parquet(project.published).shape == (50, 10)
    assert str(result.to_arrow().schema.field("fee").type) == "decimal128(10, 2)"


def test_second_run_publishes_only_what_is_new(project: Project) -> None:
    project.execute(INSERT, some_visits(10))
    project.run()
    before = project.files()
    project.execute(INSERT, [visit(99, datetime.now() - timedelta(minutes=1) + utc_offset())])
    assert project.run().manifest["rows"]["published"] == 1
    assert len(project.rows()) == 11
    assert before.items() <= project.files().items()


def utc_offset() -> timedelta:
    """What to add to local time to get UTC, in whole minutes."""
    local = datetime.now().astimezone()
    return -(local.utcoffset() or timedelta())


def test_no_new_rows_publish_a_valid_empty_result(project: Project) -> None:
    project.execute(INSERT, some_visits(5))
    project.run()
    first = Checkpoint.model_validate_json(project.variables["checkpoint__visits"])
    result = project.run()
    assert result.manifest["rows"]["published"] == 0
    assert result.to_arrow().num_rows == 0
    assert len(result.paths) == 1
    assert result.publication.window.start == first.bound
    assert pd.read_parquet(project.published).shape[0] == 5


def test_lookback_publishes_late_rows_once(project: Project) -> None:
    now = datetime.now() + utc_offset()
    project.execute(INSERT, [visit(1, now - timedelta(minutes=30))])
    project.run()
    project.execute(INSERT, [visit(2, now - timedelta(minutes=20))])
    result = project.run()
    assert result.manifest["rows"]["removed"] == {"published before, read again by the lookback": 1}
    assert [row[0] for row in project.rows()] == [1, 2]


def test_same_range_again_gives_the_same_files(project: Project) -> None:
    project.execute(INSERT, some_visits(40))
    asked = {"start": "2024-01-01", "end": "2024-01-02T12:00:00Z"}
    first = project.run(**asked)
    rows, names = project.rows("* EXCLUDE (_run_id, _extracted_at)"), project.files().keys()
    second = project.run(**asked)
    assert (project.rows("* EXCLUDE (_run_id, _extracted_at)"), project.files().keys()) == (rows, names)
    assert first.paths == second.paths


def test_range_over_published_rows_replaces_them(project: Project) -> None:
    project.execute(INSERT, some_visits(40))
    project.run()
    project.execute("UPDATE visits SET note = 'corrected' WHERE visit_id < 20")
    project.run(start="2024-01-01", end="2024-01-02T00:00:00Z")
    notes = dict(project.rows("visit_id, note"))
    assert len(project.rows()) == len(notes) == 40
    assert {number for number, note in notes.items() if note == "corrected"} == set(range(16))


def test_run_again_keeps_versions_that_moved_to_a_window_not_read_yet(project: Project) -> None:
    day, next_day = {"start": "2024-01-01", "end": "2024-01-02"}, {"start": "2024-01-02", "end": "2024-01-03"}
    later = FIRST + timedelta(days=1)
    project.execute(INSERT, some_visits(2))
    project.run(**day)
    project.execute(f"UPDATE visits SET updated_at = '{later}' WHERE visit_id = 0")
    again = project.run(**day).publication
    assert (again.rows.published, again.kept, again.completeness.verified) == (1, 1, True)
    assert [row[0] for row in project.rows()] == [0, 1]
    project.run(**next_day)
    before = project.files()
    assert project.rows() == [(0, FIRST), (0, later), (1, FIRST + timedelta(hours=1))]
    project.run(**next_day)
    assert project.files().keys() == before.keys()


def test_run_again_without_key_replaces_its_window(project: Project) -> None:
    project.configure(VISITS.replace("primary_key: [visit_id]\n", "").replace(", lookback: 1h", ""))
    project.execute(INSERT, some_visits(2))
    project.run(start="2024-01-01", end="2024-01-02")
    project.execute("UPDATE visits SET note = 'corrected in place' WHERE visit_id = 0")
    assert project.run(start="2024-01-01", end="2024-01-02").publication.kept == 0
    assert project.rows("visit_id, note") == [(0, "corrected in place"), (1, "fine")]


def test_full_run_replaces_everything(project: Project) -> None:
    project.execute(INSERT, some_visits(30))
    project.run()
    project.execute("DELETE FROM visits WHERE visit_id = 3")
    project.run(mode="full")
    assert [row[0] for row in project.rows()] == [number for number in range(30) if number != 3]
    assert len(list((project.published / "_manifests").glob("*.json"))) == 1


def test_null_cursor_and_null_key_are_not_lost(project: Project) -> None:
    project.execute(INSERT, [(1, "2024-01-01", "1.00", "a", None), (2, "2024-01-01", "1.00", "b", None)])
    project.execute(INSERT, [(None, "2024-01-01", "1.00", note, "2024-01-01 08:00:00") for note in "cd"])
    result = project.run()
    assert sorted(result.to_arrow().column("note").to_pylist()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("seed", range(6))
def test_any_sequence_of_windows_publishes_each_version_once(project: Project, seed: int) -> None:
    """Random changes and random full, range and incremental runs: every version ever current is there once at most,
    and every version that is current in the source and in a window that was read is there."""
    dice = random.Random(seed)
    project.configure(VISITS.replace("[parquet]", "[parquet, csv]"))
    project.execute(INSERT, some_visits(30))
    hours = 48
    for _ in range(6):
        number, hour = dice.randrange(40), dice.randrange(hours)
        project.execute(f"DELETE FROM visits WHERE visit_id = {number}")
        project.execute(INSERT, [visit(number, FIRST + timedelta(hours=hour), 1 + dice.randrange(5))])
        choice = dice.choice(["full", "range", "range", "incremental"])
        if choice == "range":
            start = FIRST + timedelta(hours=dice.randrange(hours))
            end = start + timedelta(hours=1 + dice.randrange(12))
            project.run(start=f"{start.isoformat()}Z", end=f"{end.isoformat()}Z")
        else:
            project.run(mode=choice)
        rows = project.rows()
        assert len(rows) == len(set(rows))
        csv = project.rows("count(*)")[0][0]
        assert csv == len(rows)
    project.run(mode="full")
    assert len(project.rows()) == len({row[0] for row in project.rows()})


class Stopped(BaseException):
    """Stands for a process that dies: nothing in the code may catch it."""


@pytest.mark.parametrize("step", range(14))
def test_stopped_at_any_file_the_next_try_completes(
    project: Project, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Stop load before its n-th rename or removal; a reader misses no row meanwhile, and the next try ends right."""
    project.execute(INSERT, some_visits(20))
    project.run()
    project.execute("UPDATE visits SET note = 'corrected' WHERE visit_id < 10")
    asked = {"start": "2024-01-01", "end": "2024-01-01T18:00:00Z"}
    calls = iter(range(1000))

    def dying(function: Any) -> Any:
        def call(*args: Any) -> Any:
            if next(calls) == step:
                raise Stopped
            return function(*args)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(journal, "publish", dying(storage.publish))
        patch.setattr(journal, "_remove", dying(journal._remove))
        patch.setattr(journal, "write_json", dying(storage.write_json))
        try:
            project.run(**asked)
        except Stopped:
            assert {row[0] for row in project.rows()} == set(range(20))
    project.run(**(asked if step % 2 else {"start": "2024-01-01T20:00:00Z", "end": "2024-01-01T21:00:00Z"}))
    assert [row[0] for row in project.rows()] == list(range(20))
    assert sum(note == "corrected" for _, note in project.rows("visit_id, note")) in ((10,) if step % 2 else (0, 10))
    assert not list((project.folder / "data" / "staging").glob("*/*"))


def test_killed_while_a_listed_publication_is_discarded(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is in place, then its folder cannot be flushed, and clearing up is killed half-way."""
    project.execute(INSERT, some_visits(20))
    project.run()
    project.execute("UPDATE visits SET note = 'corrected' WHERE visit_id < 10")
    write, remove = journal.write, shutil.rmtree

    def fails(staging: Path, listed: journal.Journal) -> None:
        write(staging, listed)
        patch.setattr(shutil, "rmtree", dies)
        raise StorageError("disk at fault")

    def dies(path: Path, *_: Any, **__: Any) -> None:
        remove(path / "new")
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(journal, "write", fails)
        with pytest.raises(Stopped):
            project.run(mode="full")
    assert not (project.folder / "data" / "staging" / "visits" / journal.NAME).exists()
    project.run(mode="full")
    assert project.rows("note").count(("corrected",)) == 10
    assert len(project.rows()) == 20


def test_listed_file_that_is_gone_is_an_error(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.execute(INSERT, some_visits(20))
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_apply", lambda *_: (_ for _ in ()).throw(Stopped()))
        with pytest.raises(Stopped):
            project.run()
    next((project.folder / "data" / "staging" / "visits" / "new").rglob("*.parquet")).unlink()
    with pytest.raises(StorageError, match="is gone and was not published; remove "):
        project.run()
    assert not (project.published / "_manifests").exists()


def test_partition_column_must_be_a_date(project: Project) -> None:
    project.execute(INSERT, some_visits(3))
    project.configure(VISITS.replace("partition_by: visit_date", "partition_by: note"))
    with pytest.raises(ConfigurationError, match=r"'note': it is string; allowed.*visit_date"):
        project.run()
    assert project.files() == {}
    assert project.variables == {}
    assert not list((project.folder / "data" / "raw").rglob("*.parquet"))


def test_value_that_does_not_convert_is_counted_not_shown(project: Project) -> None:
    project.execute(INSERT, [visit(1, FIRST, note="S1234567D")])
    project.configure(VISITS + "transform: {types: {note: INTEGER}}\n")
    with pytest.raises(DataError, match="column 'note': 1 rows do not convert to INTEGER") as refused:
        project.run()
    assert "S1234567D" not in str(refused.value)


def test_files_are_for_owner_and_group_only(project: Project) -> None:
    project.execute(INSERT, some_visits(3))
    project.run()
    data = project.folder / "data"
    modes = {path.stat().st_mode & 0o777 for path in data.rglob("*") if path.is_file() and path.name != ".lock"}
    assert modes == {0o640}
    assert {path.stat().st_mode & 0o777 for path in [data, *data.rglob("*")] if path.is_dir()} == {0o750}


def test_names_are_standardised_and_renamed(project: Project) -> None:
    project.execute('ALTER TABLE visits ADD COLUMN "Clinic Code" TEXT')
    project.execute("INSERT INTO visits VALUES (1, '2024-01-01', '1.00', '  x ', '2024-01-01 08:00:00', 'PC-01')")
    project.configure(VISITS + "transform: {rename: {note: remark}}\n")
    (row,) = project.run().to_arrow().to_pylist()
    assert (row["remark"], row["clinic_code"], row["_source"]) == ("x", "PC-01", "visits")


def test_paths_in_manifests_are_relative(project: Project) -> None:
    project.execute(INSERT, some_visits(3))
    result = project.run()
    assert str(project.folder) not in str(result.manifest)
    assert all(not Path(file["path"]).is_absolute() for file in result.manifest["files"])


def test_split_reads_every_row_once_in_slices(project: Project) -> None:
    project.execute("DROP TABLE visits")
    project.execute(
        "CREATE TABLE visits (visit_id INTEGER PRIMARY KEY, visit_date DATE, fee DECIMAL(10,2), note TEXT,"
        " updated_at TIMESTAMP)"
    )
    project.execute(INSERT, [visit(number, FIRST + timedelta(minutes=number)) for number in range(1, 5_001)])
    project.configure(VISITS + "split: {column: visit_id, rows: 1000}\n")
    result = project.run()
    assert [row[0] for row in project.rows()] == list(range(1, 5_001))
    assert result.manifest["phases"][0]["slices"] == 5
    assert [phase["rows"] for phase in result.manifest["phases"] if phase["phase"] == "extract"] == [1000] * 5


def test_bounds_of_slices_do_not_travel_between_tasks(project: Project) -> None:
    """They are keys of rows; what travels ends up in Airflow's metadata database."""
    project.execute("CREATE TABLE big (visit_id INTEGER PRIMARY KEY, updated_at TIMESTAMP)")
    project.execute("INSERT INTO big VALUES (?, '2024-01-01 08:00:00')", [(n,) for n in range(20_001, 25_001)])
    project.execute("INSERT INTO big VALUES (1, '2024-01-01 08:00:00')")
    project.configure(
        VISITS.replace("table: visits", "table: big").replace(", partition_by: visit_date", "")
        + "split: {column: visit_id, rows: 1000}\n"
    )
    run = Run(load_source("visits"), "run", Storage.from_environment())
    planned = plan(run, Parameters(), Trigger(datetime.now(UTC)), project.memory)
    assert [part.model_dump() for part in planned.slices] == [{"index": n} for n in range(len(planned.slices))]
    assert len(planned.slices) > 1
    assert sum(extract(run, planned, part).rows for part in planned.slices) == 5_001


def test_column_without_index_is_warned_of(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    project.execute(INSERT, some_visits(3))
    project.run()
    assert "column updated_at leads no index of visits" in caplog.text
    caplog.clear()
    project.execute("CREATE INDEX by_cursor ON visits (updated_at)")
    project.run()
    assert "leads no index" not in caplog.text


def test_two_dags_of_a_source_with_one_run_id_do_not_meet(project: Project) -> None:
    """The nightly and the weekly run that start at the same moment have the same run id."""
    project.execute(INSERT, some_visits(20))
    now = datetime.now(UTC)
    made: dict[str, tuple[Run, Plan]] = {}
    for dag_id, mode in (("visits_full", "full"), ("visits", "incremental")):
        run = Run(load_source("visits"), "scheduled__1", Storage.from_environment(), dag_id)
        made[dag_id] = run, plan(run, Parameters(mode=mode), Trigger(now), project.memory)
    assert made["visits"][1].window.mode == "incremental"
    read = {dag_id: [extract(run, planned, Slice())] for dag_id, (run, planned) in made.items()}
    for dag_id, (run, planned) in made.items():
        interim = transform(run, planned, read[dag_id])
        load(run, planned, read[dag_id], Validated(verdict="no suite"), interim, project.memory)
    assert [row[0] for row in project.rows()] == list(range(20))


def test_full_run_keeps_what_was_published_after_it_had_read(project: Project) -> None:
    project.execute(INSERT, some_visits(10))
    project.run()
    run = Run(load_source("visits"), "full", Storage.from_environment())
    planned = plan(run, Parameters(mode="full"), Trigger(datetime.now(UTC)), project.memory)
    read = [extract(run, planned, Slice())]
    project.execute(INSERT, [visit(77, FIRST)])
    project.run(start="2024-01-01", end="2024-01-02T00:00:00Z")
    interim = transform(run, planned, read)
    load(run, planned, read, Validated(verdict="no suite"), interim, project.memory)
    assert [row[0] for row in project.rows()] == [*range(10), 77]


def test_another_key_asks_for_a_full_run_which_then_works(project: Project) -> None:
    project.execute(INSERT, some_visits(10))
    project.run()
    project.configure(
        VISITS.replace("primary_key: [visit_id]", "primary_key: [visit_id, fee]")
        + "transform: {rename: {visit_id: number}}\n"
    )
    with pytest.raises(ConfigurationError, match="run once with mode full"):
        project.run(start="2024-01-01", end="2024-01-02T00:00:00Z")
    project.run(mode="full")
    assert len(project.rows("number")) == 10


def test_published_file_that_is_missing_is_an_error(project: Project) -> None:
    project.execute(INSERT, some_visits(10))
    for path in project.run().paths:
        path.unlink()
    with pytest.raises(StorageError, match="is gone, which the manifest"):
        project.run(start="2024-01-01", end="2024-01-02T00:00:00Z")


def test_full_disk_leaves_nothing_behind(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.execute(INSERT, some_visits(10))
    project.run()
    before = project.files()

    def full(*_: Any) -> None:
        raise StorageError("file x: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "write_json", full)
        with pytest.raises(StorageError, match="No space left"):
            project.run(mode="full")
    assert project.files() == before
    assert not list((project.folder / "data" / "staging").glob("*/*"))


def test_keys_that_trimming_makes_equal_are_refused(project: Project) -> None:
    project.execute("DROP TABLE visits")
    project.execute("CREATE TABLE visits (visit_id TEXT, visit_date DATE, updated_at TIMESTAMP)")
    project.execute("INSERT INTO visits VALUES (?, '2024-01-01', '2024-01-01 08:00:00')", [("A",), ("A ",)])
    with pytest.raises(DataError, match="1 primary keys come twice after trimming"):
        project.run()


@pytest.mark.parametrize("name", ["file_index", "File_Row_Number"])
def test_column_names_that_duckdb_keeps_are_refused(project: Project, name: str) -> None:
    project.execute(f"ALTER TABLE visits ADD COLUMN {name} BIGINT")
    with pytest.raises(ConfigurationError, match="is kept for DuckDB"):
        project.run()


def test_unknown_type_names_the_key(project: Project) -> None:
    project.execute(INSERT, some_visits(3))
    project.configure(VISITS + "transform: {types: {note: INTEGERR}}\n")
    with pytest.raises(ConfigurationError, match=r"transform.types.note: 'INTEGERR'; allowed"):
        project.run()


@pytest.mark.parametrize(
    ("session", "written"), [("session", "one snapshot"), ("query", "one snapshot"), ("none", "none")]
)
def test_manifest_says_which_consistency_held(
    project: Project, monkeypatch: pytest.MonkeyPatch, session: str, written: str
) -> None:
    """Rows come by one query, so what holds for each query is enough for a slice."""
    monkeypatch.setattr(SqliteSession, "consistency", session)
    project.execute(INSERT, some_visits(3))
    assert project.run().manifest["consistency"] == written
