"""Recovery of what is left of an installation, by every kind of damage; and the drill."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from include.etl import run as runner
from include.etl.errors import StorageError, TransientError
from include.etl.records import manifest
from include.etl.recovery import repair
from include.etl.recovery import source as recovery
from scripts import recover
from tests import backups
from tests.integration.conftest import VISITS, Project

KEY = "checkpoint__visits"
INSERT = "INSERT INTO visits VALUES (?, ?, ?, ?, ?)"
Row = tuple[Any, ...]


def visits(first: int, last: int, month: int) -> list[Row]:
    days = [f"2024-{month:02d}-{1 + number % 9:02d}" for number in range(first, last)]
    return [(number, day, "1.00", "x", f"{day} 08:00:00") for number, day in enumerate(days, first)]


@pytest.fixture
def clinic(project: Project) -> Project:
    """Two publications in two formats: everything, and a month that came late and was read again."""
    project.configure(VISITS.replace("[parquet]", "[parquet, csv]"))
    project.execute(INSERT, visits(0, 60, 1))
    project.run()
    project.execute(INSERT, visits(60, 90, 2))
    project.run(start="2024-02-01", end="2024-03-01")
    return project


def source_rows(project: Project) -> list[Row]:
    with closing(sqlite3.connect(project.folder / "clinic.db")) as connection:
        return sorted(connection.execute("SELECT visit_id, updated_at FROM visits").fetchall())


def published_rows(project: Project) -> list[Row]:
    return project.rows("visit_id, strftime(updated_at, '%Y-%m-%d %H:%M:%S')")


def run(capsys: pytest.CaptureFixture[str], *arguments: str, command: str = "run") -> tuple[int, Any]:
    capsys.readouterr()
    extra = ["--reason", "test", "--yes"] if command == "run" else []
    status = recover.main([command, *extra, "--json", *arguments])
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out else printed.err


def manifest_of(project: Project, begins: str) -> Any:
    return next(project.published.glob(f"_manifests/{begins}*.json"))


def lose_a_partition(project: Project) -> None:
    shutil.rmtree(project.published / "visit_date=2024-01-03")


def change_a_file(project: Project) -> None:
    path = next(project.published.glob("visit_date=2024-01-04/*.csv.gz"))
    path.write_bytes(path.read_bytes()[:-9] + b"too short")


def lose_a_manifest(project: Project) -> None:
    manifest_of(project, "20240201").unlink()


def lose_manifest_and_files(project: Project) -> None:
    manifest_of(project, "20240201").unlink()
    for path in project.published.rglob("20240201*"):
        path.unlink()


def spoil_a_manifest(project: Project) -> None:
    manifest_of(project, "begin").write_text("{")


def lose_all_manifests(project: Project) -> None:
    shutil.rmtree(project.published / "_manifests")


def lose_everything(project: Project) -> None:
    shutil.rmtree(project.folder / "data")
    project.variables.clear()


def spoil_the_journal(project: Project) -> None:
    staging = project.folder / "data" / "staging" / "visits"
    staging.mkdir(parents=True)
    (staging / "journal.json").write_text("[")


def spoil_all_checkpoints(project: Project) -> None:
    project.variables[KEY] = "{"
    for path in (project.folder / "data" / "checkpoints" / "visits").iterdir():
        path.write_text("")


def lose_the_variable(project: Project) -> None:
    del project.variables[KEY]


def several(project: Project) -> None:
    for spoil in (lose_the_variable, lose_a_partition, change_a_file, lose_a_manifest, spoil_the_journal):
        spoil(project)


DAMAGES = [
    lose_a_manifest,
    lose_manifest_and_files,
    spoil_a_manifest,
    lose_all_manifests,
    lose_everything,
    spoil_the_journal,
    spoil_all_checkpoints,
    several,
]


@pytest.mark.parametrize("spoil", DAMAGES)
def test_published_data_equal_the_source_again(
    clinic: Project, capsys: pytest.CaptureFixture[str], spoil: Callable[[Project], None]
) -> None:
    spoil(clinic)
    status, report = run(capsys)
    (one,) = report["sources"]
    assert (status, report["verdict"], one["error"]) == (0, "recovered", None), report
    assert published_rows(clinic) == source_rows(clinic)
    status, (after,) = run(capsys, command="check")
    assert (status, after["good"], after["damage"], after["read_again"]) == (0, True, [], [])
    clinic.run()
    assert published_rows(clinic) == source_rows(clinic)


def test_what_is_whole_is_not_read_again(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (".DS_Store", "visit_date=2024-01-03/.left.parquet.tmp"):  # no reader sees them
        (clinic.published / name).write_text("x")
    before = {name: content for name, content in clinic.files().items() if "_manifests" not in name}
    status, report = run(capsys)
    (one,) = report["sources"]
    assert (status, one["damage"], len(one["read_again"]), one["rows"]) == (0, [], 1, 0)
    assert before.items() <= clinic.files().items()


def test_a_lost_day_costs_three_days_and_keeps_the_others(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    lose_a_partition(clinic)
    _, (checked,) = run(capsys, command="check")
    assert checked["read_again"] == ["2024-01-02T08:00:00+00:00 up to 2024-01-04T08:00:00+00:00"]
    _, report = run(capsys)
    (one,) = report["sources"]
    assert len(one["damage"]) == 2
    assert one["rows"] == 14  # of two days: the upper end is exclusive
    assert one["standing_rows"] == 90


def test_damaged_files_are_kept(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    change_a_file(clinic)
    _, report = run(capsys)
    kept = clinic.folder / "data" / report["sources"][0]["set_aside"]
    assert {path.name.partition(".")[2] for path in kept.rglob("*-0.*")} == {"csv.gz", "parquet"}
    text = (clinic.folder / "data" / "reports" / "_recovery" / report["recovery"] / "report.txt").read_text()
    assert text.startswith(f"recovery {report['recovery']}: RECOVERED")
    assert "is gone or changed (7 rows)" in text
    audit = "".join(path.read_text() for path in (clinic.folder / "data" / "audit").glob("*.jsonl"))
    assert '"recovery"' in audit
    assert '"recovery ended"' in audit


def test_killed_between_setting_aside_and_reading(
    clinic: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifests say nothing of the lost rows any more: the list of what is to be read does."""
    lose_a_partition(clinic)

    def away(*_: object) -> None:
        raise TransientError("the source is away")

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "through_phases", away)
        status, report = run(capsys)
    assert (status, report["verdict"]) == (3, "failed")
    assert "the source is away" in report["sources"][0]["error"]
    assert len(published_rows(clinic)) == 83
    assert run(capsys, command="check")[0] == 1
    assert run(capsys)[0] == 0
    assert published_rows(clinic) == source_rows(clinic)


def test_killed_while_setting_aside(
    clinic: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    several(clinic)

    def full(*_: object) -> None:
        raise StorageError("disk full")

    for name in ("_write_less", "_move"):
        with monkeypatch.context() as patch:
            patch.setattr(repair, name, full)
            assert run(capsys)[0] == 1
    assert run(capsys)[0] == 0
    assert published_rows(clinic) == source_rows(clinic)


def test_backup_puts_configuration_and_checkpoint_back(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    known = json.loads(clinic.variables[KEY])
    data = clinic.folder / "data"
    backups.make(data, clinic.folder, {"visits": known})
    damaged = backups.make(data, clinic.folder, {"visits": known}, "20240202T000000Z")
    (damaged / "checkpoints.json").write_text("{}")
    (clinic.folder / "sources" / "visits.yaml").write_text("source: visits\n")
    clinic.variables[KEY] = "{"
    assert run(capsys)[0] == 2
    status, report = run(capsys, "--backup", "latest")
    assert (status, report["backup"], report["configuration"]) == (0, "20240101T000000Z", ["sources/visits.yaml"])
    assert "backup 20240101T000000Z" in report["sources"][0]["checkpoint"]
    aside = data / "damaged" / "_configuration" / report["recovery"] / "sources" / "visits.yaml"
    assert aside.read_text() == "source: visits\n"
    assert published_rows(clinic) == source_rows(clinic)
    status, shown = run(capsys, command="backups")
    assert (status, [bool(one["problem"]) for one in shown]) == (1, [False, True])


def test_asked_range_is_read_and_nothing_else_but_what_is_new(
    clinic: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    status, report = run(capsys, "--start", "2024-02-01", "--end", "2024-02-05")
    (one,) = report["sources"]
    assert (status, one["rows"], len(one["read_again"])) == (0, 12, 2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--reason", ""], "reason: nothing given"),
        (["--backup", "20990101T000000Z"], "backup: '20990101T000000Z' is not there"),
        (["--start", "yesterday"], "start: 'yesterday'"),
        (["--end", "2024-01-01"], "nothing without start"),
        (["--sources", "vists"], "did you mean 'visits'?"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_changes(
    clinic: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    lose_a_partition(clinic)
    before, variables = clinic.files(), dict(clinic.variables)
    status, message = run(capsys, *arguments)
    assert status == 2
    assert told in message["error"]
    assert (clinic.files(), clinic.variables) == (before, variables)


def test_one_source_that_fails_does_not_stop_the_other(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    clinic.configure(VISITS.replace("source: visits", "source: gone").replace("table: visits", "table: gone"), "gone")
    lose_a_partition(clinic)
    status, report = run(capsys)
    verdicts = {one["source"]: one["verdict"] for one in report["sources"]}
    assert (status, verdicts) == (1, {"gone": "failed", "visits": "recovered"})
    assert published_rows(clinic) == source_rows(clinic)


def test_drill_changes_nothing_and_says_what_would_be_lost(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    known = json.loads(clinic.variables[KEY]) | {"bound": "2024-01-08T00:00:00Z"}
    backups.make(clinic.folder / "data", clinic.folder, {"visits": known})
    clinic.configure(VISITS.replace("source: visits", "source: new"), "new")
    before, variables, include = clinic.files(), dict(clinic.variables), os.environ["ETL_INCLUDE"]
    status, found = run(capsys, command="drill")
    (one,) = found["sources"]
    assert (status, found["verdict"], found["configured_since"]) == (0, "recovered", ["new"])
    assert (one["checkpoint"], one["rows"]) == ("2024-01-08T00:00:00Z", 6)
    assert one["checkpoint_now"] == json.loads(clinic.variables[KEY])["bound"]
    assert len(one["windows_since"]) == 2
    assert found["backup_age_hours"] > 24 * 365
    assert one["estimated_seconds"] > one["seconds"]
    assert (clinic.files(), clinic.variables, os.environ["ETL_INCLUDE"]) == (before, variables, include)
    assert not (clinic.folder / "data" / ".drill").exists()
    (clinic.folder / "clinic.db").unlink()
    status, found = run(capsys, command="drill")
    assert (status, found["verdict"]) == (1, "failed")
    assert not (clinic.folder / "data" / ".drill").exists()


def test_a_source_without_cursor_is_read_as_a_whole(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    text = VISITS.replace("cursor: {column: updated_at, lookback: 1h}\n", "").replace("incremental:", "full:")
    project.configure(text)
    project.execute(INSERT, visits(0, 20, 1))
    project.run()
    shutil.rmtree(project.published / "visit_date=2024-01-03")
    status, report = run(capsys)
    assert (status, report["sources"][0]["rows"]) == (0, 20)
    assert published_rows(project) == source_rows(project)
    assert len(manifest.current(runner.prepare("visits")[0].storage, "visits")) == 1
