"""Bad rows: set aside with their reasons, the rest published; released or dropped later, never lost, never twice."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from include.etl import quarantine, quarantine_decisions
from include.etl import run as runner
from include.etl.errors import ConfigurationError, StorageError, ValidationFailed
from include.etl.handover import Plan
from include.etl.horizon import DEGRADED
from include.etl.phases.plan import plan
from include.etl.phases.request import Parameters, Trigger
from include.etl.publication import journal
from include.etl.records.run import Run
from include.etl.records.set_aside import folder_of, of_this_try
from include.etl.sources import load_source
from include.etl.storage import Storage
from scripts import quarantine as command
from tests.integration.conftest import VISITS, Project
from tests.integration.test_publication import INSERT, some_visits
from tests.integration.test_verify import UNSURE, doubt

SOURCE = VISITS + "validation: {on_failure: quarantine, max_rejected: 10%}\nverify: {columns: [visit_id, note]}\n"
NOT_BAD = {"type": "expect_column_values_to_not_be_in_set", "kwargs": {"column": "note", "value_set": ["bad", "worse"]}}
FROM_3 = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "visit_id", "min_value": 3}}
KNOWN = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "visit_id"}}
POSITIVE = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "fee", "min_value": 0}}


def suite(project: Project, *expectations: dict[str, Any]) -> None:
    folder = project.folder / "expectations"
    folder.mkdir(exist_ok=True)
    (folder / "visits.json").write_text(json.dumps({"name": "visits", "expectations": expectations}))


@pytest.fixture
def clinic(project: Project) -> Project:
    """100 rows, of which 3 and 4 are bad."""
    project.configure(SOURCE)
    suite(project, NOT_BAD, POSITIVE)
    project.execute(INSERT, some_visits(100))
    project.execute("UPDATE visits SET note = 'bad' WHERE visit_id IN (3, 4)")
    project.execute("UPDATE visits SET fee = -1 WHERE visit_id = 4")
    return project


def aside(project: Project) -> list[quarantine.Quarantine]:
    return quarantine.standing(Storage(project.folder / "data"), "visits")


def rows_of(project: Project, one: quarantine.Quarantine) -> list[dict[str, Any]]:
    return pq.read_table(quarantine.rows_file(Storage(project.folder / "data"), one)).to_pylist()


def report(project: Project) -> tuple[str, str]:
    """What the validation's page says of the run, first of all."""
    (path,) = (project.folder / "data" / "reports" / "visits").rglob("validation.html")
    found = re.search(r"<h1>(.*?)</h1>\s*<p>(.*?)</p>", path.read_text(), re.S)
    assert found
    return found[1], found[2]


def test_bad_rows_are_set_aside_and_the_rest_is_published(clinic: Project) -> None:
    done = clinic.run().publication
    assert [row[0] for row in clinic.rows()] == [number for number in range(100) if number not in (3, 4)]
    assert done.rows.model_dump() == {"extracted": 100, "removed": {"quarantined": 2}, "published": 98}
    assert done.completeness.verified
    assert (done.validation["verdict"], done.validation["quarantined"]) == ("quarantined", 2)
    assert report(clinic) == (
        "Rows set aside",
        "2 critical rules are broken. 2 of 100 rows are set aside. The run goes on with the others.",
    )
    (one,) = aside(clinic)
    in_set, between = "expect_column_values_to_not_be_in_set on note", "expect_column_values_to_be_between on fee"
    assert (one.rows, one.of, one.reasons) == (2, 100, {in_set: 2, between: 1})
    assert [(row["visit_id"], row["_etl_reasons"]) for row in rows_of(clinic, one)] == [
        (3, [in_set]),
        (4, [between, in_set]),
    ]


def test_only_the_owner_may_look(clinic: Project) -> None:
    clinic.run()
    root = clinic.folder / "data" / "quarantine"
    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in [root, *root.rglob("*")]}
    assert modes == {True: 0o700, False: 0o600}


def test_log_and_report_tell_counts_and_no_value(clinic: Project, caplog: pytest.LogCaptureFixture) -> None:
    done = clinic.run().publication
    assert "2 rows set aside: expect_column_values_to_not_be_in_set on note" in caplog.text
    written = caplog.text + (clinic.folder / "data" / done.validation["result"]).read_text() + done.model_dump_json()
    assert "-1.00" not in written
    assert done.rows.removed == {"quarantined": 2}


@pytest.mark.parametrize("load", ["append", "merge"])
def test_row_that_is_set_aside_when_its_window_is_read_again_is_published_no_more(clinic: Project, load: str) -> None:
    clinic.configure(f"{SOURCE}load: {load}\n")
    january = {"start": "2024-01-01", "end": "2024-02-01"}
    suite(clinic, POSITIVE)
    clinic.run(**january)
    suite(clinic, NOT_BAD, POSITIVE)
    clinic.execute("UPDATE visits SET updated_at = '2024-03-01 00:00:00' WHERE visit_id = 50")
    again = clinic.run(**january).publication
    assert (again.rows.removed, again.kept) == ({"quarantined": 2}, 1)
    assert [row[0] for row in clinic.rows()] == [number for number in range(100) if number not in (3, 4)]


def test_too_many_stop_the_run(clinic: Project) -> None:
    clinic.configure(SOURCE.replace("10%", "1.9%"))
    with pytest.raises(ValidationFailed, match=r"2 of 100 .*max_rejected = 1.9% allows; nothing was published"):
        clinic.run()
    assert report(clinic)[0] == "Failed"
    assert "The run ends here, before anything of it is published." in report(clinic)[1]
    assert clinic.files() == {}
    assert clinic.variables == {}
    assert aside(clinic) == []


def test_the_table_as_a_whole_still_stops_the_run(clinic: Project) -> None:
    suite(clinic, NOT_BAD, {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1000}})
    with pytest.raises(ValidationFailed, match="2 critical of 2"):
        clinic.run()
    assert (clinic.files(), aside(clinic)) == ({}, [])


def test_warnings_and_mostly_reject_nothing(clinic: Project) -> None:
    mostly = {**NOT_BAD, "kwargs": {**NOT_BAD["kwargs"], "mostly": 0.98}}  # type: ignore[dict-item]
    suite(clinic, mostly, {**POSITIVE, "severity": "warning"})
    assert clinic.run().publication.rows.published == 100
    assert aside(clinic) == []


def test_every_supported_expectation_finds_the_rows_that_great_expectations_counts(clinic: Project) -> None:
    """A count that differs would stop the run."""
    clinic.execute(INSERT, [(4, None, "5.00", None, "2024-01-01 08:00:00"), (500, "1999-01-01", None, "Zz", None)])
    clinic.execute("CREATE TABLE notes (note TEXT)")
    clinic.execute("INSERT INTO notes VALUES ('fine'), ('bad')")
    clinic.configure(
        SOURCE.replace("10%", "100%").replace(
            "validation: {", "validation: {references: {notes: {table: notes, columns: [note]}}, "
        )
    )
    column = {"column": "note"}
    suite(
        clinic,
        *(
            {"type": f"expect_column_{type_}", "kwargs": kwargs}
            for type_, kwargs in [
                ("values_to_not_be_null", {"column": "visit_date"}),
                ("values_to_be_null", {"column": "fee"}),
                ("values_to_be_in_set", {**column, "value_set": ["fine", "it's"]}),
                ("values_to_not_be_in_set", {**column, "value_set": ["bad"]}),
                (
                    "values_to_be_between",
                    {"column": "visit_date", "min_value": "2000-01-01", "max_value": "2024-01-04"},
                ),
                ("values_to_be_between", {"column": "fee", "min_value": 5, "strict_min": True, "max_value": 12.3}),
                ("value_lengths_to_be_between", {**column, "max_value": 3}),
                ("values_to_match_regex", {**column, "regex": "^[a-z']+$"}),
                ("values_to_not_match_regex", {**column, "regex": "^b"}),
                ("values_to_be_unique", {"column": "visit_id"}),
                ("values_to_exist_in_reference", {**column, "reference": "notes", "reference_column": "note"}),
                ("pair_values_a_to_be_greater_than_b", {"column_A": "updated_at", "column_B": "visit_date"}),
            ]
        ),
    )
    done = clinic.run().publication
    (one,) = aside(clinic)
    assert len(one.reasons) == 12
    assert done.rows.published + done.rows.removed["quarantined"] == 102


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        (
            {"type": "expect_column_values_to_match_like_pattern", "kwargs": {"column": "note", "like_pattern": "f%"}},
            r"expectation 1 \(expect_column_values_to_match_like_pattern\): validation.on_failure: quarantine cannot",
        ),
        (
            {
                "type": "expect_column_values_to_not_be_null",
                "kwargs": {
                    "column": "fee",
                    "row_condition": {"type": "nullity", "column": {"name": "note"}, "is_null": False},
                },
            },
            "row_condition: not with validation.on_failure: quarantine",
        ),
    ],
)
def test_what_cannot_tell_rows_is_refused(clinic: Project, expectation: dict[str, Any], message: str) -> None:
    suite(clinic, expectation)
    with pytest.raises(ConfigurationError, match=message):
        clinic.run()
    suite(clinic, {**expectation, "severity": "warning"})


@pytest.mark.parametrize("share", ["1", "101%", "-1%", 5])
def test_a_share_is_a_percentage(clinic: Project, share: Any) -> None:
    clinic.configure(SOURCE.replace("10%", str(share)))
    with pytest.raises(ConfigurationError, match=r"max_rejected: .*allowed: a percentage from 0% to 100%"):
        load_source("visits")


def test_a_retry_replaces_its_own_rows(clinic: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    check = runner.check

    def twice(run: Run, plan: Any, extracted: Any) -> Any:
        check(run, plan, extracted)
        suite(clinic, POSITIVE)
        return check(run, plan, extracted)

    monkeypatch.setattr(runner, "check", twice)
    assert clinic.run().publication.rows.removed == {"quarantined": 1}
    (one,) = aside(clinic)
    assert [row["visit_id"] for row in rows_of(clinic, one)] == [4]


def test_rows_that_vanish_between_validate_and_transform_stop_the_run(
    clinic: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = runner.check

    def dropped(run: Run, plan: Any, extracted: Any) -> Any:
        verdict = check(run, plan, extracted)
        of_this_try(folder_of(run.storage, "visits", run.key)).unlink()
        return verdict

    monkeypatch.setattr(runner, "check", dropped)
    with pytest.raises(StorageError, match="2 rows were set aside by validate, 0 left out by transform"):
        clinic.run()
    assert clinic.files() == {}


def the_same_run(project: Project) -> None:
    """A run that is cleared each time."""
    run = Run(load_source("visits"), "cleared", Storage(project.folder / "data"))
    asked = Parameters(start="2024-01-01", end="2024-02-01")
    runner.through_phases(run, asked, Trigger(datetime.now(UTC)), project.memory)


@pytest.mark.parametrize(("then", "bad"), [([KNOWN], []), ([POSITIVE], [4]), ([FROM_3, POSITIVE], [0, 1, 2, 4])])
def test_copy_stays_until_what_replaces_it_is_published(
    clinic: Project, monkeypatch: pytest.MonkeyPatch, then: list[dict[str, Any]], bad: list[int]
) -> None:
    """Cleared with another rule, the run fails after validation: what stands published still lacks the old rows."""
    the_same_run(clinic)
    (before,) = aside(clinic)
    suite(clinic, *then)
    with monkeypatch.context() as patch:
        patch.setattr(runner, "load", lambda *_: (_ for _ in ()).throw(StorageError("full disk")))
        with pytest.raises(StorageError):
            the_same_run(clinic)
    assert aside(clinic) == [before]
    assert [row["visit_id"] for row in rows_of(clinic, before)] == [3, 4]
    the_same_run(clinic)
    left = [row["visit_id"] for one in aside(clinic) for row in rows_of(clinic, one)]
    assert left == bad
    assert sorted(left + [row[0] for row in clinic.rows()]) == list(range(100))
    assert not list((clinic.folder / "data" / "quarantine").rglob("next"))


def test_killed_after_it_is_certain_the_copy_comes_with_the_publication(
    clinic: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(journal, "adopt", lambda _: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            clinic.run()
    assert aside(clinic) == []
    clinic.run(start="2024-03-01", end="2024-03-02")
    assert [one.rows for one in aside(clinic)] == [2]


def test_exactly_the_share_that_is_allowed(clinic: Project) -> None:
    """29 % of 100 are 28.999999999999996 in binary."""
    clinic.configure(SOURCE.replace("10%", "29%"))
    clinic.execute("UPDATE visits SET note = 'bad' WHERE visit_id < 29")
    assert clinic.run().publication.rows.removed == {"quarantined": 29}
    clinic.execute("UPDATE visits SET note = 'bad' WHERE visit_id < 30")
    with pytest.raises(ValidationFailed, match="30 of 100 rows"):
        clinic.run(mode="full")


def test_released_rows_that_are_dropped_meanwhile(
    clinic: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clinic.run()
    (one,) = aside(clinic)
    check = runner.check

    def dropped(run: Run, plan: Any, extracted: Any) -> Any:
        quarantine_decisions.drop(run.storage, one, "me", "why")
        return check(run, plan, extracted)

    monkeypatch.setattr(runner, "check", dropped)
    suite(clinic, POSITIVE)
    clinic.run(release=one.run_key)
    assert len(clinic.rows()) == 99
    assert f"{one.run_key}: the rows set aside were dropped while they were read again" in caplog.text


def planned(project: Project, **asked: Any) -> Plan:
    run = Run(load_source("visits"), "drops", Storage(project.folder / "data"))
    return plan(run, Parameters(**asked), Trigger(datetime.now(UTC), triggered_by="ann"), project.memory)


def test_form_drops_and_reads_nothing(clinic: Project, caplog: pytest.LogCaptureFixture) -> None:
    clinic.run()
    (one,) = aside(clinic)
    (clinic.folder / "clinic.db").rename(clinic.folder / "away.db")
    assert planned(clinic, drop=one.run_key, reason="test patients").slices == []
    assert aside(clinic) == []
    assert f"2 rows that run {one.run_id} had set aside are deleted" in caplog.text
    (line,) = (clinic.folder / "data/quarantine/visits/decisions.jsonl").read_text().splitlines()
    assert [json.loads(line)[key] for key in ("decision", "by", "reason")] == ["drop", "ann", "test patients"]
    assert '"action": "quarantine drop"' in "".join(p.read_text() for p in (clinic.folder / "data/audit").glob("2*"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"drop": "x", "reason": "why"}, "run 'x'; allowed: manual_cli"),
        ({"drop": "x"}, "parameter reason: ''; allowed: a sentence that says why, with drop"),
        ({"drop": "x", "reason": "why", "mode": "full"}, "parameter mode: 'full'; allowed: nothing with drop"),
        ({"drop": "x", "reason": "why", "release": "x"}, "parameter release: 'x'; allowed: nothing with drop"),
    ],
)
def test_wrong_drops(clinic: Project, asked: dict[str, str], message: str) -> None:
    clinic.run()
    with pytest.raises(ConfigurationError, match=message):
        planned(clinic, **asked)
    assert len(aside(clinic)) == 1


def quarantined(project: Project, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    status = command.main([arguments[0], "visits", *arguments[1:], "--json"])
    printed = capsys.readouterr().out
    return status, json.loads(printed) if printed else None


def test_release_after_the_rule_was_repaired(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Released rows join the published ones, each once, in their own partitions; what still fails stays aside."""
    clinic.run()
    checkpoint, key = dict(clinic.variables), aside(clinic)[0].run_key
    suite(clinic, POSITIVE)
    clinic.execute("UPDATE visits SET note = 'newer', updated_at = '2024-01-09 00:00:00' WHERE visit_id = 50")
    status, (done,) = quarantined(clinic, capsys, "release", "--run", key, "--reason", "rule corrected")
    assert (status, done["still_set_aside"]) == (0, 1)
    assert [row[0] for row in clinic.rows()] == [number for number in range(100) if number != 4]
    assert {str(row[1]) for row in clinic.rows("visit_id, visit_date") if row[0] == 3} == {"2024-01-04"}
    assert clinic.variables == checkpoint
    _, (first, second) = quarantined(clinic, capsys, "list")
    assert first["released_by"] == done["published_by"] == second["run_id"]
    assert [row["visit_id"] for row in rows_of(clinic, aside(clinic)[1])] == [4]
    assert quarantined(clinic, capsys, "release", "--run", key, "--reason", "again")[0] == 0
    assert len(clinic.rows()) == 99
    lines = (clinic.folder / "data/quarantine/visits/decisions.jsonl").read_text().splitlines()
    assert [(json.loads(line)["decision"], json.loads(line)["reason"]) for line in lines] == [
        ("release", "rule corrected"),
        ("release", "again"),
    ]


def test_release_reads_only_days_around_the_rows(clinic: Project) -> None:
    clinic.execute("UPDATE visits SET updated_at = '2024-02-10 00:00:00' WHERE visit_id > 90")
    clinic.run()
    clinic.execute("UPDATE visits SET note = 'fine', fee = 1 WHERE visit_id IN (3, 4)")
    done = clinic.run(release=aside(clinic)[0].run_key).publication
    assert (done.window.mode, done.rows.extracted, done.rows.removed) == ("range", 28, {})
    assert len(clinic.rows()) == 100


def test_a_date_west_of_utc_is_released(clinic: Project) -> None:
    """There a day ends hours after midnight in UTC."""
    west = "cursor: {column: visit_date, timezone: America/New_York}"
    clinic.configure(SOURCE.replace("cursor: {column: updated_at, lookback: 1h}", west))
    clinic.run()
    suite(clinic, KNOWN)
    clinic.run(release=aside(clinic)[0].run_key)
    assert [row[0] for row in clinic.rows()] == list(range(100))


@pytest.mark.parametrize("name", ["_row", "_reasons", "_number"])
def test_columns_named_like_ours_change_nothing(clinic: Project, name: str) -> None:
    clinic.execute(f"ALTER TABLE visits ADD COLUMN {name} BIGINT")
    clinic.execute(f"UPDATE visits SET {name} = visit_id + 1")
    clinic.run()
    assert [row[0] for row in clinic.rows()] == [number for number in range(100) if number not in (3, 4)]
    assert [row["visit_id"] for row in rows_of(clinic, aside(clinic)[0])] == [3, 4]


def test_a_column_named_as_ours_is_refused(clinic: Project) -> None:
    clinic.execute("ALTER TABLE visits ADD COLUMN _ETL_row BIGINT")
    with pytest.raises(ConfigurationError, match="column '_etl_row' has a name that is kept"):
        clinic.run()


def test_rows_without_cursor_are_released_by_reading_everything(clinic: Project) -> None:
    clinic.execute("UPDATE visits SET updated_at = NULL WHERE visit_id = 3")
    clinic.run()
    suite(clinic, POSITIVE)
    assert clinic.run(release=aside(clinic)[0].run_key).publication.window.mode == "full"
    assert len(clinic.rows()) == 99


@pytest.mark.parametrize("bad", [[3, 99], [99], [40]], ids=["first and last", "the last of all", "one"])
def test_release_by_numbers_reads_the_last_row_too(clinic: Project, bad: list[int]) -> None:
    clinic.configure(SOURCE.replace("{column: updated_at, lookback: 1h}", "{column: visit_id, type: number}"))
    listed = ", ".join(map(str, bad))
    clinic.execute("UPDATE visits SET note = 'fine', fee = 1")
    clinic.execute(f"UPDATE visits SET note = 'bad' WHERE visit_id IN ({listed})")
    clinic.run()
    assert [row[0] for row in clinic.rows()] == [number for number in range(100) if number not in bad]
    suite(clinic, POSITIVE)
    found = clinic.run(release=aside(clinic)[0].run_key).publication
    assert (found.window.start, found.window.end) == (bad[0], bad[-1] + 1)
    assert [row[0] for row in clinic.rows()] == list(range(100))


def test_release_of_everything_lets_go_of_no_row_that_left_the_source(clinic: Project) -> None:
    clinic.execute("UPDATE visits SET updated_at = NULL WHERE visit_id = 3")
    clinic.run()
    suite(clinic, POSITIVE)
    clinic.execute("DELETE FROM visits WHERE visit_id = 50")
    found = clinic.run(release=aside(clinic)[0].run_key).publication
    assert (found.window.mode, found.kept) == ("full", 1)
    assert [row[0] for row in clinic.rows()] == [number for number in range(100) if number != 4]


def test_drop_asks_and_leaves_a_line(
    clinic: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.run()
    (one,) = aside(clinic)
    asked = ("drop", "--run", one.run_key, "--reason", "test patients")
    hold = clinic.folder / "maintenance.yaml"
    hold.write_text("hold: [visits]\n")
    with pytest.raises(ConfigurationError, match="'visits' is held"):
        quarantine_decisions.drop(Storage(clinic.folder / "data"), one, "me", "why")
    assert quarantine.rows_file(Storage(clinic.folder / "data"), one).exists()
    hold.unlink()
    assert quarantined(clinic, capsys, *asked)[0] == 2
    assert len(aside(clinic)) == 1
    assert quarantined(clinic, capsys, *asked, "--yes")[0] == 0
    assert aside(clinic) == []
    assert '"decision": "drop"' in (clinic.folder / "data/quarantine/visits/decisions.jsonl").read_text()
    assert len(clinic.rows()) == 98


def test_drop_waits_until_the_others_are_published(clinic: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    the_same_run(clinic)
    monkeypatch.setattr(runner, "load", lambda *_: (_ for _ in ()).throw(StorageError("full disk")))
    with pytest.raises(StorageError):
        the_same_run(clinic)
    (one,) = aside(clinic)
    with pytest.raises(ConfigurationError, match="has not published the other rows"):
        quarantine_decisions.drop(Storage(clinic.folder / "data"), one, "me", "why")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "visits"], "--run: nothing named"),
        (["show", "visits", "--run", "x"], "run 'x'; allowed: manual_cli"),
        (["drop", "visits", "--run", "x"], "--reason: nothing given"),
    ],
)
def test_wrong_requests(
    clinic: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    clinic.run()
    assert command.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_show_prints_no_values(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    clinic.run()
    capsys.readouterr()
    assert command.main(["show", "visits", "--run", aside(clinic)[0].run_id]) == 0
    printed = capsys.readouterr().out
    assert "2 of 100 rows, set aside" in printed
    assert Path(printed.split("file: ")[1].strip()).exists()


@pytest.mark.parametrize("unsure", [{}, *UNSURE])
def test_rows_that_a_doubtful_reference_has_set_aside_are_told(
    clinic: Project, monkeypatch: pytest.MonkeyPatch, unsure: dict[str, Any]
) -> None:
    """A key that the reference's session was not shown makes good rows bad ones."""
    clinic.execute("CREATE TABLE notes (note TEXT)")
    clinic.execute("INSERT INTO notes VALUES ('fine'), (NULL)")
    references = "validation: {references: {notes: {table: notes, columns: [note]}}, "
    clinic.configure(SOURCE.replace("10%", "100%").replace("validation: {", references))
    kwargs = {"column": "note", "reference": "notes", "reference_column": "note"}
    suite(clinic, {"type": "expect_column_values_to_exist_in_reference", "kwargs": kwargs})
    doubt(monkeypatch, **unsure)
    clinic.run()
    assert aside(clinic)[0].rows >= 2
    (record,) = (clinic.folder / "data" / "runs" / "visits").glob("*/summary.json")
    (phase,) = [one for one in json.loads(record.read_text())["phases"] if one["phase"] == "validate"]
    said = phase["conditions"].get(DEGRADED, "")
    assert said == "\n".join(
        f"reference notes: {why}: rows may have been taken for bad that are not"
        for why in [why for told in unsure.values() for why in told]
    )
