"""The demo data tells the story that it should, the same one every time, and a new day only adds to its end."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from demo.generate import END, advance, generate

VISITS = 20_000
NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
TABLES = {"polyclinic": ["patients", "visits"], "nehr": ["diagnoses"], "warehouse": ["reference_codes"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    generate(folder, visits=VISITS)
    return folder


@pytest.fixture
def later(folder: Path, tmp_path: Path) -> Path:
    """The same databases a day on."""
    for path in folder.glob("*.db"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    advance(tmp_path, NOW)
    return tmp_path


def rows(folder: Path, database: str, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / f"{database}.db")) as connection:
        return connection.execute(query).fetchall()


def number(folder: Path, query: str, database: str = "polyclinic") -> Any:
    return rows(folder, database, query)[0][0]


def everything(folder: Path) -> Iterator[list[tuple[Any, ...]]]:
    for database, tables in TABLES.items():
        for table in tables:
            yield rows(folder, database, f"SELECT * FROM {table} ORDER BY rowid")


def test_the_command_makes_what_the_demo_promises(tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "demo" / "generate.py"
    subprocess.run([sys.executable, script, "--folder", tmp_path / "new"], check=True)
    assert number(tmp_path / "new", "SELECT count(*) FROM visits") >= 100_000
    before = number(tmp_path / "new", "SELECT max(updated_at) FROM visits")
    subprocess.run([sys.executable, script, "--folder", tmp_path / "new", "--advance"], check=True)
    added = number(tmp_path / "new", f"SELECT count(*) FROM visits WHERE updated_at > '{before}'")
    assert 1_000 < added < 1_500
    newest = datetime.fromisoformat(number(tmp_path / "new", "SELECT max(updated_at) FROM visits"))
    assert timedelta(0) < datetime.now(UTC) - newest.replace(tzinfo=UTC) < timedelta(minutes=1)


def test_tables_have_the_promised_sizes(folder: Path) -> None:
    assert number(folder, "SELECT count(*) FROM patients") == 20_000
    assert number(folder, "SELECT count(DISTINCT visit_id) FROM visits") == VISITS
    assert number(folder, "SELECT count(*) FROM diagnoses", "nehr") == 60_000
    systems = dict(rows(folder, "warehouse", "SELECT code_system, count(*) FROM reference_codes GROUP BY 1"))
    assert systems == {"ICD10": pytest.approx(2000, abs=3), "CLINIC": 20, "VISIT_TYPE": 5}


@pytest.mark.parametrize(
    ("story", "condition", "share"),
    [
        ("updated days later", "updated_at > created_at", 0.03 + 0.002),
        ("entered weeks late", "visit_date < date(created_at)", 0.005),
        ("no such patient", "patient_id NOT IN (SELECT patient_id FROM patients)", 0.0005),
        ("wrong", "systolic_bp = 999 OR diagnosis_code = 'ZZZ' OR visit_date > '2090-01-01'", 0.001),
        ("impossible pressure", "systolic_bp = 999", 0.001 / 3),
        ("not a code", "diagnosis_code = 'ZZZ'", 0.001 / 3),
        ("in the future", "visit_date > '2090-01-01'", 0.001 / 3),
    ],
)
def test_shares_of_visits_with_a_story(folder: Path, story: str, condition: str, share: float) -> None:
    assert number(folder, f"SELECT count(*) FROM visits WHERE {condition}") == pytest.approx(VISITS * share, abs=1), (
        story
    )


def test_duplicates_differ_in_their_stamp_alone(folder: Path) -> None:
    twice = "SELECT visit_id FROM visits GROUP BY visit_id HAVING count(*) = 2 AND count(DISTINCT updated_at) = 2"
    assert number(folder, f"SELECT count(*) FROM ({twice})") == VISITS * 0.002
    other = "patient_id, clinic_code, visit_date, visit_type, diagnosis_code, systolic_bp, fee, created_at"
    same = f"SELECT DISTINCT visit_id, {other} FROM visits WHERE visit_id IN ({twice})"
    assert number(folder, f"SELECT count(*) FROM ({same})") == VISITS * 0.002


def test_values_are_well_formed_where_nothing_is_meant_to_be_wrong(folder: Path) -> None:
    codes = {code for (code,) in rows(folder, "warehouse", "SELECT code FROM reference_codes")}
    stamp = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?")
    for _, _, clinic, day, kind, code, pressure, fee, created, updated in rows(
        folder, "polyclinic", "SELECT * FROM visits"
    ):
        assert {clinic, kind} <= codes
        assert code is None or code in codes | {"ZZZ"}
        assert pressure is None or 60 <= pressure <= 260 or pressure == 999
        assert fee >= 0
        assert round(fee, 2) == fee
        assert day >= "2025-09-01"
        assert stamp.fullmatch(created)
        assert stamp.fullmatch(updated)
        assert created <= updated < str(END)
    for _, nric, name, born, sex, postal_code, _ in rows(folder, "polyclinic", "SELECT * FROM patients"):
        assert re.fullmatch(r"[STFGM][0-9]{7}[A-Z]", nric)
        assert name.strip()
        assert "1930-01-01" <= born < "2026-01-01"
        assert sex in "MFU"
        assert re.fullmatch("[0-9]{6}", postal_code)


def test_names_and_codes_have_what_trips_readers(folder: Path) -> None:
    names = [name for (name,) in rows(folder, "polyclinic", "SELECT full_name FROM patients")]
    assert 0.01 < sum(name != name.strip() for name in names) / len(names) < 0.03
    assert any(not name.isascii() for name in names)
    assert number(folder, "SELECT count(*) FROM patients WHERE postal_code LIKE '0%'") > 1000
    assert number(folder, "SELECT count(*) FROM visits WHERE diagnosis_code IS NULL") > VISITS * 0.15
    assert number(folder, "SELECT count(*) FROM diagnoses WHERE severity IS NULL", "nehr") > 10_000


def test_foreign_keys_are_declared_and_hold_outside_the_orphans(folder: Path) -> None:
    assert [row[2:5] for row in rows(folder, "polyclinic", "PRAGMA foreign_key_list(visits)")] == [
        ("patients", "patient_id", "patient_id")
    ]
    assert len(rows(folder, "polyclinic", "PRAGMA foreign_key_check(visits)")) == VISITS * 0.0005
    known = {i for (i,) in rows(folder, "polyclinic", "SELECT patient_id FROM patients")}
    assert {i for (i,) in rows(folder, "nehr", "SELECT patient_id FROM diagnoses")} <= known
    codes = {code for (code,) in rows(folder, "warehouse", "SELECT code FROM reference_codes")}
    assert {code for (code,) in rows(folder, "nehr", "SELECT icd10_code FROM diagnoses")} <= codes


def test_cursor_columns_are_indexed(folder: Path) -> None:
    for database, query in [("polyclinic", "visits WHERE updated_at"), ("nehr", "diagnoses WHERE recorded_at")]:
        plan = rows(folder, database, f"EXPLAIN QUERY PLAN SELECT * FROM {query} >= '2025-12-31'")
        assert "USING INDEX" in plan[0][3]


def test_the_same_seed_gives_the_same_rows_and_another_one_others(folder: Path, tmp_path: Path) -> None:
    generate(tmp_path, visits=VISITS)
    assert list(everything(tmp_path)) == list(everything(folder))
    generate(tmp_path, visits=VISITS, seed=1)
    assert list(everything(tmp_path)) != list(everything(folder))


def test_the_end_can_be_moved(tmp_path: Path) -> None:
    generate(tmp_path, visits=500, end=datetime(2020, 6, 1, 12, tzinfo=UTC))
    assert "2020-05-25" < number(tmp_path, "SELECT max(updated_at) FROM visits") < "2020-06-01 12"
    assert number(tmp_path, "SELECT min(updated_at) FROM visits") > "2020-03-01"


@pytest.mark.parametrize(
    ("database", "table", "stamp"),
    [
        ("polyclinic", "visits", "updated_at"),
        ("polyclinic", "patients", "updated_at"),
        ("nehr", "diagnoses", "recorded_at"),
    ],
)
def test_a_new_day_changes_nothing_but_what_it_stamps(
    folder: Path, later: Path, database: str, table: str, stamp: str
) -> None:
    before = number(folder, f"SELECT max({stamp}) FROM {table}", database)
    changed = f"SELECT count(*), min({stamp}), max({stamp}) FROM {table} WHERE {stamp} > '{before}'"
    [(count, first, last)] = rows(later, database, changed)
    assert count > 50
    assert "2026-03-01 09:29:59" <= first <= last <= "2026-03-01 09:30:00"
    old = f"SELECT rowid, * FROM {table} WHERE {stamp} <= '{before}'"
    assert set(rows(later, database, old)) <= set(rows(folder, database, old))


def test_a_new_day_has_new_updated_late_and_duplicated_visits(folder: Path, later: Path) -> None:
    new = "SELECT count(DISTINCT visit_id) FROM visits WHERE created_at >= '2026-03-01'"
    assert number(later, new) == VISITS // 90
    assert number(later, f"{new} AND visit_date < '2026-02-28'") == 1
    assert (
        number(later, "SELECT count(*) FROM visits WHERE created_at < '2026-01-01' AND updated_at > '2026-03-01'") == 7
    )
    rows_added = number(later, "SELECT count(*) FROM visits") - number(folder, "SELECT count(*) FROM visits")
    assert rows_added == VISITS // 90 + 1


def test_days_follow_each_other_even_within_one_second(later: Path) -> None:
    before = number(later, "SELECT max(updated_at) FROM visits")
    last_id = number(later, "SELECT max(visit_id) FROM visits")
    advance(later, NOW)
    assert number(later, f"SELECT min(updated_at) FROM visits WHERE visit_id > {last_id}") > before


def test_a_new_day_needs_databases(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        advance(tmp_path)
    assert list(tmp_path.iterdir()) == []
