"""Retention and backups over real runs: nothing that is needed goes, whatever happens between plan and delete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.etl import quarantine
from include.etl import run as runner
from include.etl.errors import ConfigurationError, StorageError, TransientError
from include.etl.lock import locked
from include.etl.maintenance import backups, removal
from include.etl.maintenance.due import Entry
from include.etl.maintenance.policy import Policy, load_policy
from include.etl.phases import load
from include.etl.phases.request import Parameters, Trigger
from include.etl.records import audit_check, checkpoint, manifest, set_aside
from include.etl.records.run import Run, gate
from include.etl.recovery.backup import chosen
from include.etl.sources import load_source
from include.etl.storage import Storage
from scripts import audit as audit_command
from scripts import maintenance as command
from scripts import recover
from tests.integration.conftest import VISITS, Project

LATER = timedelta(days=4000)


@pytest.fixture
def published(project: Project) -> Project:
    for day in (1, 2, 3):
        row = (day, f"2024-01-0{day}", "1.50", "x", f"2024-01-0{day} 08:00:00")
        project.execute("INSERT INTO visits VALUES (?, ?, ?, ?, ?)", [row])
        project.run(mode="range", start=f"2024-01-0{day}", end=f"2024-01-0{day + 1}")
    return project


def storage_of(project: Project) -> Storage:
    return Storage(project.folder / "data")


def age(project: Project, days: float = 4000) -> None:
    """Let everything be that old."""
    then = age_files(project, days)
    for path in (project.published / "_manifests").glob("*.json"):
        content = json.loads(path.read_text())
        moved = datetime.fromisoformat(content["published_at"]) - timedelta(days=days)
        path.write_text(json.dumps(content | {"published_at": moved.isoformat()}))
        os.utime(path, (then, then))


def age_files(project: Project, days: float = 4000) -> float:
    then = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    for path in storage_of(project).root.rglob("*"):
        os.utime(path, (then, then))
    return then


def configure(project: Project, text: str) -> None:
    (project.folder / "maintenance.yaml").write_text(text)


def kinds(listed: removal.Listed) -> dict[str, int]:
    return {kind: numbers["entries"] for kind, numbers in listed.totals().items()}


def run(project: Project) -> dict[str, object]:
    planned = removal.plan(storage_of(project))
    return removal.delete(storage_of(project), planned["list"], planned["sha256"])


def test_nothing_young_goes_and_what_is_old_goes(published: Project) -> None:
    storage = storage_of(published)
    assert removal.due(storage, Policy(), datetime.now(UTC)).entries == []
    age(published)
    files = published.files()
    found = removal.due(storage, Policy(), datetime.now(UTC))
    assert kinds(found) == {"interim": 3, "logs": 1, "raw": 3, "runs": 3}
    assert found.findings == []
    done = run(published)
    assert done["stayed"] == 0
    assert not list((storage.root / "raw" / "visits").iterdir())
    assert published.files() == files
    actions = [line["action"] for line in audit_check.entries(storage)][-3:]
    assert actions == ["maintenance planned", "maintenance begun", "maintenance deleted"]
    assert audit_check.check(storage).problems == []
    published.run(mode="full")


def test_rows_set_aside_go_once_released_and_are_told_of_until_then(published: Project) -> None:
    folder = published.folder / "expectations"
    folder.mkdir()
    bad = {"type": "expect_column_values_to_not_be_in_set", "kwargs": {"column": "note", "value_set": ["bad"]}}
    (folder / "visits.json").write_text(json.dumps({"name": "visits", "expectations": [bad]}))
    published.configure(VISITS + "validation: {on_failure: quarantine, max_rejected: 100%}\n")
    published.execute("INSERT INTO visits VALUES (4, '2024-01-04', '1.00', 'bad', '2024-01-04 08:00:00')")
    published.run()
    storage, later = storage_of(published), datetime.now(UTC) + LATER
    (aside,) = quarantine.standing(storage, "visits")
    rows = quarantine.rows_file(storage, aside)
    assert removal.due(storage, Policy(), datetime.now(UTC)).findings == []
    found = removal.due(storage, Policy(), later)
    assert "quarantine" not in kinds(found)
    (told,) = found.findings
    assert told.path == f"quarantine/visits/{aside.run_key}"
    assert told.what.startswith("1 rows set aside are older than keep, and neither released nor dropped")
    published.execute("UPDATE visits SET note = 'fine' WHERE visit_id = 4")
    published.run(release=aside.run_key, reason="corrected")
    found = removal.due(storage, Policy(), later)
    assert [entry.path for entry in found.entries if entry.kind == "quarantine"] == [storage.relative(rows.parent)]
    assert found.findings == []


def test_what_a_run_whose_load_failed_has_set_aside_does_not_go(
    published: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of its try wait in `next/`, beside those of the earlier one, which were released."""
    (published.folder / "expectations").mkdir()
    bad = {"type": "expect_column_values_to_not_be_in_set", "kwargs": {"column": "note", "value_set": ["bad"]}}
    suite = json.dumps({"name": "visits", "expectations": [bad]})
    (published.folder / "expectations" / "visits.json").write_text(suite)
    published.configure(VISITS + "validation: {on_failure: quarantine, max_rejected: 100%}\n")
    published.execute("INSERT INTO visits VALUES (4, '2024-01-04', '1.00', 'bad', '2024-01-04 08:00:00')")
    storage, asked = storage_of(published), Parameters(start="2024-01-04", end="2024-01-05")
    cleared = Run(load_source("visits"), "cleared", storage)

    def the_same_run() -> None:
        runner.through_phases(cleared, asked, Trigger(datetime.now(UTC)), published.memory)

    the_same_run()
    (aside,) = quarantine.standing(storage, "visits")
    published.execute("UPDATE visits SET note = 'fine' WHERE visit_id = 4")
    published.run(release=aside.run_key, reason="corrected")
    published.execute("UPDATE visits SET note = 'bad' WHERE visit_id = 4")
    monkeypatch.setattr(load.journal, "finish", lambda *_: (_ for _ in ()).throw(StorageError("full disk")))
    with pytest.raises(StorageError):
        the_same_run()
    waiting = set_aside.of_this_try(set_aside.folder_of(storage, "visits", cleared.key))
    assert waiting.exists()
    found = removal.due(storage, Policy(), datetime.now(UTC) + LATER)
    assert "quarantine" not in kinds(found)


def test_no_task_begins_while_its_source_s_old_data_go(published: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    age(published)
    storage, remove, seen = storage_of(published), removal._remove, list[str]()

    def beginning(storage: Storage, entry: Entry) -> bool:
        if entry.source:
            with pytest.raises(TransientError), gate(storage, entry.source, "a task", shared=True, wait_s=0):
                pass
            seen.append(entry.source)
        return remove(storage, entry)

    monkeypatch.setattr(removal, "_remove", beginning)
    run(published)
    assert seen
    with gate(storage, "visits", "a task", shared=True, wait_s=0):
        pass


def test_what_retention_has_deleted_is_not_read_again(published: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """One publication after the other: the newest that is left says what the others covered."""
    configure(published, "keep: {processed: 365d}\n")
    published.run(mode="range", start="2000-01-01", end="2024-01-01")
    published.run(mode="range", start="2024-01-04", end="2024-01-05")
    checkpoint.put(
        load_source("visits"), datetime(2024, 1, 5, tzinfo=UTC), "test", published.memory, storage_of(published)
    )
    asked = ["check", "--json"]
    begin = "the beginning up to 2000-01-01T00:00:00+00:00"
    recover.main(asked)
    assert json.loads(capsys.readouterr().out)[0]["read_again"] == [begin]
    age(published)
    run(published)
    assert len(manifest.current(storage_of(published), "visits")) == 1
    recover.main(asked)
    assert json.loads(capsys.readouterr().out)[0]["read_again"] == [begin]


def test_old_publications_go_but_the_newest_stays(published: Project) -> None:
    configure(published, "keep: {processed: 365d}\n")
    age(published)
    assert kinds(removal.due(storage_of(published), load_policy(), datetime.now(UTC)))["processed"] == 2
    run(published)
    assert [row[0] for row in published.rows()] == [3]
    assert len(manifest.current(storage_of(published), "visits")) == 1
    assert removal.due(storage_of(published), load_policy(), datetime.now(UTC)).findings == []


def test_old_versions_of_a_checkpoint_go_but_the_newest_thirty_stay(published: Project) -> None:
    storage = storage_of(published)
    published.run(mode="full")
    (newest,) = checkpoint.history(storage, "visits")
    for day in range(1, 32):
        shutil.copy(newest, newest.with_name(f"202001{day:02d}T000000.000000Z.json"))
    for minute in range(40):  # which nobody can go back to
        shutil.copy(newest, newest.with_name(f"20200201T00{minute:02d}00.000000Z.edited"))
    age(published)
    found = removal.due(storage, Policy(), datetime.now(UTC) + LATER)
    gone = [entry.path for entry in found.entries if entry.kind == "checkpoints"]
    assert sum(path.endswith(".edited") for path in gone) == 40
    gone = [path for path in gone if path.endswith(".json")]
    assert gone == [f"checkpoints/visits/202001{day:02d}T000000.000000Z.json" for day in range(1, len(gone) + 1)]
    assert len(gone) == 2, "thirty of 32 stay"


def test_merged_rows_never_go(published: Project) -> None:
    published.configure(VISITS + "load: merge\n")
    configure(published, "keep: {processed: 365d}\n")
    age(published)
    assert "processed" not in kinds(removal.due(storage_of(published), load_policy(), datetime.now(UTC)))


def test_nothing_of_a_held_source_goes(published: Project) -> None:
    configure(published, "hold: [visits]\nkeep: {processed: 365d}\n")
    age(published)
    assert removal.due(storage_of(published), load_policy(), datetime.now(UTC)).entries == []
    configure(published, "hold: [vistis]\n")
    with pytest.raises(ConfigurationError, match="hold: 'vistis'; allowed: visits"):
        removal.plan(storage_of(published))


def test_what_changes_after_the_list_was_made_stays(published: Project) -> None:
    """A hold, a file that is written to, a run whose task begins, a publication that begins."""
    age(published)
    storage = storage_of(published)
    planned = removal.plan(storage)
    count = sum(numbers["entries"] for numbers in planned["totals"].values())
    configure(published, "hold: [visits]\n")
    assert removal.delete(storage, planned["list"], planned["sha256"])["stayed"] == count
    configure(published, "")
    one, *_ = sorted((storage.root / "raw" / "visits").iterdir())
    (one / "new").touch()
    with locked(storage.root / "processed" / "visits" / ".lock", "published data", "a publication"):
        told = removal.delete(storage, planned["list"], planned["sha256"])
        assert set(told["totals"]) <= {"logs"}
    other = sorted((storage.root / "raw" / "visits").iterdir())[1]
    with locked(storage.root / "runs" / "visits" / other.name / ".extract.lock", "extract", "a task"):
        removal.delete(storage, planned["list"], planned["sha256"])
    assert sorted((storage.root / "raw" / "visits").iterdir()) == [one, other]
    assert (storage.root / "runs" / "visits" / other.name).exists()


def test_a_list_that_was_changed_is_refused(published: Project) -> None:
    age(published)
    planned = removal.plan(storage_of(published))
    path = storage_of(published).root / "maintenance" / planned["list"]
    path.write_text(path.read_text().replace("raw/", "processed/"))
    with pytest.raises(ConfigurationError, match="nothing was deleted"):
        removal.delete(storage_of(published), planned["list"], planned["sha256"])


def test_leftovers_go_and_what_is_not_in_order_is_told(published: Project) -> None:
    storage = storage_of(published)
    (published.published / ".x.parquet.tmp").write_text("half")
    (storage.folder("staging", "visits") / "new").mkdir()
    (published.published / "stray.parquet").write_text("x")
    lost = next(path for path in published.published.rglob("2024*.parquet"))
    lost.unlink()
    age(published)
    found = removal.due(storage, Policy(), datetime.now(UTC))
    assert {entry.path for entry in found.entries if entry.kind in ("temporary", "staging")} == {
        "processed/visits/.x.parquet.tmp",
        "staging/visits",
    }
    assert {(finding.path, finding.what) for finding in found.findings} == {
        ("processed/visits/stray.parquet", "no manifest lists it"),
        (storage.relative(lost), "a manifest lists it; it is missing"),
    }
    run(published)
    assert (published.published / "stray.parquet").exists()
    (storage.folder("staging", "visits") / "journal.json").write_text(
        '{"renames": {}, "manifests": {}, "removals": []}'
    )
    age(published)
    found = removal.due(storage, Policy(), datetime.now(UTC))
    assert "staging" not in kinds(found)
    assert [finding.path for finding in found.findings] == ["staging/visits/journal.json"]


@pytest.mark.parametrize("damaged", ["processed/visits/_manifests/{}.json", "runs/visits/{}/summary.json"])
def test_damage_of_one_source_stops_no_other(published: Project, damaged: str) -> None:
    storage = storage_of(published)
    shutil.copytree(storage.root / "raw" / "visits", storage.root / "raw" / "others")
    (storage.root / "quarantine" / "visits").mkdir(parents=True)
    for path in (storage.root / "runs" / "visits").glob("[!.]*"):
        (storage.root / "quarantine" / "visits" / path.name).mkdir()
    for path in storage.root.glob(damaged.format("*")):
        path.write_text("half of")
    age_files(published)
    before = sorted((storage.root / "raw" / "visits").iterdir())
    found = removal.due(storage, Policy(), datetime.now(UTC))
    assert {entry.source for entry in found.entries} == {"", "others"}
    (told,) = found.findings
    assert told.source == "visits"
    assert told.what.startswith("nothing of this source goes: file ")
    run(published)
    assert sorted((storage.root / "raw" / "visits").iterdir()) == before
    assert not list((storage.root / "raw" / "others").iterdir())


def test_what_went_is_told_though_deleting_was_stopped(published: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(storage: Storage, entry: Entry, real: Callable[..., bool] = removal._remove) -> bool:
        if entry.kind == "runs":
            raise KeyboardInterrupt
        return real(storage, entry)

    age(published)
    monkeypatch.setattr(removal, "_remove", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(published)
    *_, last = audit_check.entries(storage_of(published))
    assert last["action"] == "maintenance deleted"
    assert any(path.startswith("raw/visits") for path in last["paths"])
    assert not any(path.startswith("runs") for path in last["paths"])


def test_what_nobody_clears_away_is_told(published: Project) -> None:
    storage = storage_of(published)
    for name in (".drill", "backups/.making", "damaged/visits", "processed/gone/_manifests", "reports/_recovery/x"):
        (storage.root / name).mkdir(parents=True)
    assert {one.path for one in removal.due(storage, Policy(), datetime.now(UTC)).findings} == {"processed/gone"}
    age_files(published)
    found = removal.due(storage, Policy(), datetime.now(UTC))
    assert {one.path for one in found.findings} == {".drill", "backups/.making", "damaged/visits", "processed/gone"}
    assert not [entry for entry in found.entries if entry.source == "_recovery"]


def test_a_run_that_waits_between_two_tasks_keeps_its_folders(published: Project) -> None:
    storage = storage_of(published)
    one, *others = sorted((storage.root / "runs" / "visits").glob("[!.]*"))
    content = json.loads((one / "summary.json").read_text())
    (one / "summary.json").write_text(json.dumps(content | {"status": "running"}))
    age(published)
    found = {entry.path for entry in removal.due(storage, Policy(), datetime.now(UTC)).entries}
    assert f"raw/visits/{others[0].name}" in found
    assert not [path for path in found if path.endswith(one.name)]
    (published.folder / "sources" / "visits.yaml").unlink()
    found = {entry.path for entry in removal.due(storage, Policy(), datetime.now(UTC)).entries}
    assert f"raw/visits/{one.name}" in found, "no run of it comes that could end it"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_needed_is_ever_listed(published: Project, data: st.DataObject) -> None:
    """Any ages, any holds, any tasks at work, any periods."""
    storage, now = storage_of(published), datetime.now(UTC)
    ages: dict[str, int] = {}
    for path in sorted(storage.root.glob("*/visits/*/")):
        days = ages[storage.relative(path)] = data.draw(st.integers(0, 40))
        for one in [path, *path.rglob("*")]:
            os.utime(one, ((now - timedelta(days=days)).timestamp(),) * 2)
    keep = {
        kind: data.draw(st.sampled_from(["2d", "10d", "forever"])) for kind in ("raw", "interim", "runs", "processed")
    }
    policy = Policy.model_validate({"keep": keep, "hold": data.draw(st.sampled_from([[], ["visits"]]))})
    busy = data.draw(st.sampled_from(sorted((storage.root / "runs" / "visits").glob("[!.]*"))))
    with locked(busy / ".extract.lock", "extract", "a task"):
        listed = removal.due(storage, policy, now)
    for entry in listed.entries:
        assert not policy.hold
        assert keep[entry.kind] != "forever"
        assert Path(entry.path).name != busy.name
        assert ages[entry.path] > int(keep[entry.kind][:-1]) - 1
    assert not listed.findings
    if not policy.hold:
        listed_paths = {entry.path for entry in listed.entries}
        for path, days in ages.items():
            kind = path.split("/")[0]
            old = kind in ("raw", "interim") and keep[kind] != "forever" and days > int(keep[kind][:-1])
            assert not (old and Path(path).name != busy.name) or path in listed_paths


def test_a_policy_that_makes_no_sense_is_refused(project: Project) -> None:
    for text, told in (
        ("keep: {raw: 1d}\n", "keep.raw"),
        ("keeep: {}\n", "keeep"),
        ("dry_run: maybe\n", "dry_run"),
        ("keep: {raw: soon}\n", "keep.raw: .*90s, 15m"),
        ("- x\n", "maintenance.yaml"),
    ):
        configure(project, text)
        with pytest.raises(ConfigurationError, match=told):
            load_policy()


def test_a_backup_is_read_back_and_damage_is_found(published: Project) -> None:
    published.run()
    storage = storage_of(published)
    name = backups.make(storage, published.memory)
    record = backups.verify(storage)
    assert record["backup"] == name
    assert set(record["members"]) == {"sources/visits.yaml"}
    usable = chosen(storage, "latest")
    assert (usable.name, usable.problem(), list(usable.checkpoints())) == (name, None, ["visits"])
    kept = json.loads((storage.root / "backups" / name / "checkpoints.json").read_text())
    assert kept["visits"] == json.loads(published.variables["checkpoint__visits"])
    assert record["audit"]["number"] == next(
        line["number"] - 1 for line in audit_check.entries(storage) if line["action"] == "backup made"
    )
    assert audit_check.check(storage).problems == []
    for damaged in ("configuration.tar.gz", "checkpoints.json"):
        path = storage.root / "backups" / name / damaged
        before = path.read_bytes()
        path.write_bytes(before[:-1] + b"x")
        with pytest.raises(StorageError, match=damaged):
            backups.verify(storage, name)
        path.write_bytes(before)
    published.variables["checkpoint__visits"] = "spoilt"
    for told in ("cannot be used: the whole value", "it is not there, but this source had one"):
        assert backups._checkpoints(storage, published.memory)[0] == {}
        (problem,) = backups._checkpoints(storage, published.memory)[1]
        assert told in problem
        published.variables.pop("checkpoint__visits", None)
    published.configure("source: broken\n", "broken")
    assert any("broken.yaml" in problem for problem in backups._checkpoints(storage, published.memory)[1])


def test_two_backups_at_once_do_not_share_a_folder(published: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = storage_of(published)
    monkeypatch.setattr("include.etl.lock.WAIT_S", 0.0)
    with (
        locked(storage.folder("backups") / ".lock", "the folder of backups", "a backup"),
        pytest.raises(TransientError, match="in use by a backup"),
    ):
        backups.make(storage, published.memory)
    assert backups.names(storage) == []


def test_backups_are_kept_by_days_and_months(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    start = datetime(2024, 1, 1, 4, tzinfo=UTC)
    for number in range(90):
        for hour in (0, 6):
            (storage.folder("backups") / f"{start + timedelta(days=number, hours=hour):%Y%m%dT%H%M%SZ}").mkdir()
    policy = Policy.model_validate({"backups": {"daily": 3, "monthly": 2}})
    gone = {Path(entry.path).name for entry in backups.due(storage, policy, datetime.now(UTC))}
    assert sorted(set(backups.names(storage)) - gone) == [
        "20240229T100000Z",
        "20240328T100000Z",
        "20240329T100000Z",
        "20240330T100000Z",
    ]
    assert not backups.due(storage, policy, start), "nothing younger than the longest run goes"
    early = start + timedelta(days=4)  # the first of two on each of its days
    gone = {Path(entry.path).name for entry in backups.due(storage, policy, early)}
    assert {"20240102T040000Z", "20240102T100000Z"} <= gone
    assert "20240103T100000Z" not in gone


def test_commands(published: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "CommandLineVariables", lambda: published.memory)
    age(published)
    assert command.main(["plan", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["entries"]) == 10
    assert command.main(["run"]) == 2, "there is no terminal to ask on"
    capsys.readouterr()
    assert any((storage_of(published).root / "raw" / "visits").iterdir())
    assert command.main(["run", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["raw"]["entries"] == 3
    assert [command.main([action]) for action in ("backup", "verify-backup")] == [0, 0]
    assert command.main(["verify-backup", "--backup", "20200101T000000Z"]) == 2
    capsys.readouterr()
    assert audit_command.main(["verify"]) == 0
    assert "in order" in capsys.readouterr().out
    assert audit_command.main(["list", "--json", "--source", "visits"]) == 0
    assert {line["source"] for line in json.loads(capsys.readouterr().out)} == {"visits"}
    assert audit_command.main(["list", "--source", "vistis"]) == 2
    assert "'vistis'; allowed: visits" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        audit_command.main(["list", "--since", "yesterday"])
    assert audit_command.main(["list", "--json", "--since", "2100-01-01"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert audit_command.main(["list", "--json", "--since", "2000-01-01"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert audit_command.main(["show", "1"]) == 0
    assert audit_command.main(["show", "9999"]) == 2
    (path,) = (storage_of(published).root / "audit").glob("*.jsonl")
    path.write_text(path.read_text().replace("extraction started", "extraction stopped", 1))
    assert audit_command.main(["verify"]) == 1
    assert f"{path.name}:1: number 1 was changed" in capsys.readouterr().out
