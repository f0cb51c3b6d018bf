"""scripts/verify.py: what was published, checked again."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from include.etl import transforms
from include.etl.engines.sqlite import SqliteSession
from scripts import verify
from tests.integration.conftest import VISITS, Project
from tests.integration.test_publication import FIRST, INSERT, some_visits, visit

SOURCE = VISITS.replace("[parquet]", "[parquet, csv]") + "verify: {columns: [fee, note]}\n"


@pytest.fixture
def clinic(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.configure(SOURCE)
    project.execute(INSERT, some_visits(40))
    project.run(start="2024-01-01", end="2024-01-03")
    return project


def found(project: Project, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    capsys.readouterr()
    status = verify.main(["visits", "--json", *arguments])
    printed = capsys.readouterr().out
    return status, json.loads(printed)["windows"] if printed else []


def test_unchanged_publication_is_verified(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    status, (one,) = found(clinic, capsys)
    assert (status, one["verdict"], one["differences"], one["unchecked"]) == (0, "verified", [], [])
    assert one["notes"] == [
        "the source holds 40 rows, and all are published, by key and cursor value and the checksums of verify.columns"
    ]


def delete_a_row(project: Project) -> None:
    path = next(project.published.rglob("*.csv.gz"))
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:-1])))


def tamper(project: Project) -> None:
    path = next(project.published.rglob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def remove(project: Project) -> None:
    next(project.published.rglob("*.parquet")).unlink()


def edit(**changes: Any) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        path = next(project.published.glob("_manifests/*.json"))
        content = json.loads(path.read_text())
        for key, value in changes.items():
            content["rows" if key in content["rows"] else "completeness"][key] = value
        path.write_text(json.dumps(content))

    return change


def lie(project: Project) -> None:
    path = next(project.published.glob("_manifests/*.json"))
    content = json.loads(path.read_text())
    content["completeness"]["checks"][-1]["found"]["columns"]["fee"]["checksum"] = "0" * 16
    path.write_text(json.dumps(content))


def recorded_by_md5(project: Project) -> None:
    """Make the manifest one of the time before text was summed up by SHA-256."""
    path = next(project.published.glob("_manifests/*.json"))
    content = json.loads(path.read_text())
    for check in content["completeness"]["checks"]:
        for totals in (check["expected"], check["found"]):
            note = totals.get("columns", {}).get("note", {"hash": ""})
            del note["hash"]
            note["checksum"] = "5d41402abc4b2a76"
    path.write_text(json.dumps(content))


def test_an_old_manifest_is_not_damaged_and_its_text_not_verified(
    clinic: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded_by_md5(clinic)
    status, (one,) = found(clinic, capsys)
    assert (status, one["verdict"], one["differences"]) == (3, "not checked", [])
    assert [line for line in one["unchecked"] if "column 'note': its checksum was recorded by another hash" in line]
    clinic.execute("UPDATE visits SET note = NULL WHERE visit_id = 3")
    status, (one,) = found(clinic, capsys)
    assert (status, one["verdict"]) == (1, "different")
    assert "column 'note': 40 and 39 values that are not NULL" in one["differences"][0]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (delete_a_row, "bytes were published, it has"),
        (tamper, "its content has changed"),
        (remove, "is gone"),
        (edit(published=39), "manifest: 40 extracted less 0 removed are not 39"),
        (edit(published=39, removed={"older version or duplicate": 1}), "rows: 39 by the manifest, 40 in the files"),
        (lie, "csv files: column 'fee': checksum"),
    ],
)
def test_faults_are_found(
    clinic: Project, capsys: pytest.CaptureFixture[str], fault: Callable[[Project], None], message: str
) -> None:
    fault(clinic)
    status, (one,) = found(clinic, capsys)
    assert (status, one["verdict"]) == (1, "different")
    assert message in " ".join(one["differences"])


def test_source_may_lose_rows_of_a_window_but_gain_none(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    clinic.execute("UPDATE visits SET updated_at = '2024-06-01 00:00:00' WHERE visit_id < 3")
    clinic.execute("DELETE FROM visits WHERE visit_id = 3")
    status, (one,) = found(clinic, capsys)
    assert (status, one["notes"]) == (
        0,
        [
            "4 published rows are not in the source as such: updated or deleted since",
            "the source holds 36 rows, and all are published, by key and cursor value; other values were not compared",
        ],
    )
    clinic.execute(INSERT, [visit(100 + number, FIRST) for number in range(5)])
    status, (one,) = found(clinic, capsys)
    assert status == 1
    assert "41 rows in this window, but 5 of them were not published" in one["differences"][0]


@pytest.mark.parametrize("load", ["append", "merge"])
def test_late_row_is_found_though_another_has_left(
    clinic: Project, capsys: pytest.CaptureFixture[str], load: str
) -> None:
    """As many rows as were published, but not the same ones."""
    clinic.configure(f"{SOURCE}load: {load}\n")
    clinic.execute("UPDATE visits SET updated_at = '2024-06-01 00:00:00' WHERE visit_id < 3")
    clinic.execute(INSERT, [visit(100 + number, FIRST) for number in range(2)])
    status, (one,) = found(clinic, capsys)
    assert status == 1
    assert "39 rows in this window, but 2 of them were not published" in one["differences"][0]
    assert not list((clinic.folder / "data" / "interim").rglob("*versions*"))
    clinic.run(start="2024-01-01", end="2024-01-03")
    assert found(clinic, capsys)[0] == 0


STEPS = {
    "even": "(SELECT * FROM {} WHERE visit_id % 2 = 0)",
    "same": "(SELECT * FROM {})",
    "hidden": "(SELECT * REPLACE (visit_id + 1000000 AS visit_id) FROM {})",
}


@pytest.fixture(params=STEPS)
def step(request: pytest.FixtureRequest, clinic: Project, monkeypatch: pytest.MonkeyPatch) -> str:
    """An own step of the source, with which its window is published anew."""
    name: str = request.param
    monkeypatch.setitem(transforms.TRANSFORMS, name, "step.sql")
    monkeypatch.setattr(transforms, "_apply_sql", lambda connection, name, path, rows: STEPS[name].format(rows))
    clinic.configure(VISITS + f"transform: {{steps: [{name}]}}\n")
    clinic.run(mode="full")
    return name


def test_late_rows_are_not_hidden_by_own_steps(clinic: Project, capsys: pytest.CaptureFixture[str], step: str) -> None:
    """As many rows as before: as many have come late as have left. Only a step that keeps all rows lets one know."""
    told = {"even": (3, "unchecked"), "same": (0, "notes"), "hidden": (0, "notes")}
    status, (one,) = found(clinic, capsys)
    assert (status, bool(one[told[step][1]])) == (told[step][0], True), one
    clinic.execute("UPDATE visits SET updated_at = '2999-06-01 00:00:00' WHERE visit_id < 4")
    clinic.execute(INSERT, [visit(100 + number, FIRST) for number in range(2)])
    status, (one,) = found(clinic, capsys)
    assert status == {"even": 3, "same": 1, "hidden": 3}[step], one
    text = " ".join([*one["differences"], *one["unchecked"]])
    assert {"even": "transform.steps (20)", "same": "2 of them were not published", "hidden": "change key or"}[
        step
    ] in text


def test_rows_set_aside_are_looked_up_and_hide_no_late_row(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Two rows were set aside; two others come late. One that was dropped is known by its number only."""
    rule = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "visit_id", "min_value": 2}}
    (clinic.folder / "expectations").mkdir()
    (clinic.folder / "expectations" / "visits.json").write_text(json.dumps({"name": "v", "expectations": [rule]}))
    clinic.configure(VISITS + "validation: {on_failure: quarantine, max_rejected: 10%}\n")
    clinic.run(mode="full")
    status, (one,) = found(clinic, capsys)
    assert (status, one["notes"][0]) == (0, "2 rows that the source holds are not published: they are set aside")
    clinic.execute(INSERT, [visit(100 + number, FIRST) for number in range(2)])
    clinic.execute("UPDATE visits SET updated_at = '2999-06-01 00:00:00' WHERE visit_id IN (0, 1, 2, 3)")
    status, (one,) = found(clinic, capsys)
    assert (status, "2 of them were not published" in " ".join(one["differences"])) == (1, True), one


def test_value_changed_behind_the_cursor(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    clinic.execute("UPDATE visits SET fee = '99.00' WHERE visit_id = 3")
    status, (one,) = found(clinic, capsys)
    assert status == 1
    assert "source now: column 'fee': checksum" in one["differences"][0]


def test_rows_that_other_publications_hold_count(clinic: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Overlapping windows, a lookback and a full run's copy: every window is still complete."""
    clinic.run(start="2024-01-02", end="2024-01-04T06:00:00Z")
    clinic.execute(INSERT, [visit(7, FIRST + timedelta(days=8))])  # a second version of a row
    clinic.run()
    clinic.run()
    status, windows = found(clinic, capsys, "--window", "all")
    assert status == 0
    assert len(windows) >= 2
    assert {one["verdict"] for one in windows} == {"verified"}
    clinic.run(mode="full")
    assert found(clinic, capsys, "--window", "all")[0] == 0


def test_what_cannot_be_checked_says_so(
    clinic: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic.configure(VISITS + "verify: {count: false}\n")
    status, (one,) = found(clinic, capsys)
    assert (status, one["verdict"]) == (3, "not checked")
    clinic.configure(SOURCE)
    (clinic.folder / "clinic.db").rename(clinic.folder / "away.db")
    status, (one,) = found(clinic, capsys)
    assert status == 3
    assert "the source could not be asked" in one["unchecked"][0]


def test_source_without_cursor(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.configure(
        VISITS.replace("cursor: {column: updated_at, lookback: 1h}\n", "").replace("incremental:", "full:")
    )
    project.execute(INSERT, some_visits(5))
    project.run()
    assert found(project, capsys)[0] == 0
    project.execute("DELETE FROM visits WHERE visit_id = 1")
    status, (one,) = found(project, capsys)
    assert status == 0
    assert one["notes"][0] == "1 published rows are not in the source as such: updated or deleted since"
    project.execute(INSERT, [visit(100, FIRST)])
    status, (one,) = found(project, capsys)
    assert status == 3
    assert "1 of 5 rows that the source holds are not published: without a cursor" in one["unchecked"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nobody"], "does not exist"), (["visits", "--window", "x"], "allowed: latest, all, 20240101T")],
)
def test_wrong_requests(
    clinic: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert verify.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("load", "verdict"), [("append", "not checked"), ("merge", "different")])
def test_versions_that_a_former_release_removed_are_no_late_rows(
    project: Project, capsys: pytest.CaptureFixture[str], load: str, verdict: str
) -> None:
    """They came with the same read, which published the latest of each key; nobody has to look for lost rows."""
    project.configure(VISITS + f"load: {load}\n")
    project.execute(INSERT, [visit(number, FIRST) for number in range(5)])
    project.run(start="2024-01-01", end="2024-01-03")
    (path,) = project.published.glob("_manifests/*.json")
    manifest = json.loads(path.read_text())
    manifest["rows"]["extracted"] += 1
    manifest["rows"]["removed"]["older version or duplicate"] = 1
    path.write_text(json.dumps(manifest))
    project.execute(INSERT, [visit(99, FIRST)])
    _, (one,) = found(project, capsys)
    assert one["verdict"] == verdict
    assert ("a former release, which published the latest" in "".join(one["unchecked"])) is (load == "append")


UNSURE = [{"unchecked": ["another server keeps it"]}, {"hidden": ["a policy hides rows"]}, {"unpinned": ["a setting"]}]


@pytest.mark.parametrize("unsure", UNSURE)
def test_what_its_own_session_cannot_make_sure_of_is_not_verified(
    clinic: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, unsure: dict[str, Any]
) -> None:
    doubt(monkeypatch, **unsure)
    (told,) = unsure.values()
    status, (one,) = found(clinic, capsys)
    assert (status, one["verdict"], one["differences"], one["unchecked"]) == (3, "not checked", [], told)


def doubt(monkeypatch: pytest.MonkeyPatch, unpinned: Sequence[str] = (), **of_origins: Sequence[str]) -> None:
    """Make sessions with SQLite unsure of something, as those with other databases can be."""
    origins = SqliteSession.origins
    monkeypatch.setattr(SqliteSession, "origins", lambda *given: origins(*given)._replace(**of_origins))  # type: ignore[arg-type]
    settings = property(lambda _: unpinned, lambda *_: None)
    monkeypatch.setattr(SqliteSession, "unpinned", settings, raising=False)
