"""Fictional data for the demo: three SQLite files that look like clinical databases, defects included.

    python demo/generate.py --folder demo/data             create them anew; the same seed gives the same rows
    python demo/generate.py --folder demo/data --advance   add a day: new visits, updates, late rows, stamped now

Dates and times are text as SQLite has them, in UTC. No person, number or visit in it is real.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

END = datetime(2026, 1, 1, tzinfo=UTC)
"""All rows of `generate` are older than this, and so in the past whenever the demo runs."""
DAYS = 90
PATIENTS, DIAGNOSES, ICD10_CODES = 20_000, 60_000, 2_000
UNKNOWN_PATIENT = 9_000_000

# Shares of the visits that have a story; bad and orphaned ones are what validation should find.
UPDATED, LATE, DUPLICATE, BAD, ORPHAN = 0.03, 0.005, 0.002, 0.001, 0.0005
DEFECTS: list[dict[str, Any]] = [{"systolic_bp": 999}, {"diagnosis_code": "ZZZ"}, {"visit_date": "2099-12-31"}]

VISIT_TYPES = ("CONSULT", "FOLLOW_UP", "VACCINATION", "SCREENING", "EMERGENCY")
CLINICS = [f"PC-{number:02}" for number in range(1, 21)]
SEVERITIES = ("MILD", "MODERATE", "SEVERE", None)
KNOWN_CODES = {"J06.9": "Acute upper respiratory infection", "I10": "Hypertension", "E11.9": "Type 2 diabetes mellitus"}
FAMILY_NAMES = ("Tan", "Lim", "Ng", "Wong", "Goh", "Kumar", "Rahman", "de Souza", "Müller", "Nguyễn", "陈", "O'Neil")
GIVEN_NAMES = ("Wei Ling", "Jun Jie", "Siti", "Priya", "José", "Zoë", "Ah Kow", "Mei", "Arjun", "Nurul", "大文")

Row = Sequence[str | int | float | None]


class Visit(NamedTuple):
    """A row of `visits`, with its columns in order; `visit_id` is not unique."""

    visit_id: int
    patient_id: int
    clinic_code: str
    visit_date: str
    visit_type: str
    diagnosis_code: str | None
    systolic_bp: int | None
    fee: float
    created_at: str
    updated_at: str


def generate(folder: Path, visits: int = 100_000, seed: int = 20240101, end: datetime | None = None) -> None:
    """Create the three databases in `folder`, replacing what was there, with 90 days before `end` (UTC)."""
    rng = random.Random(seed)  # noqa: S311
    last = (end or END).astimezone(UTC)
    references = _references(rng)
    codes = [str(code) for system, code, *_ in references if system == "ICD10"]
    nrics = rng.sample(range(10**7), PATIENTS)
    patients = [_patient(rng, i, nric, _moment(rng, last)) for i, nric in enumerate(nrics, 1)]
    regular = [_visit(rng, i, _opening_hours(rng, last), PATIENTS, codes) for i in range(1, visits + 1)]
    diagnoses = [_diagnosis(rng, i, _moment(rng, last), PATIENTS, codes) for i in range(1, DIAGNOSES + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    rows = _with_story(rng, regular, later=lambda visit: _within_20_days(rng, visit, last))
    _create(folder / "polyclinic.db", patients=patients, visits=rows)
    _create(folder / "nehr.db", diagnoses=diagnoses)
    _create(folder / "warehouse.db", reference_codes=references)


def advance(folder: Path, now: datetime | None = None) -> None:
    """Add a day of changes and new rows, all stamped later than any so far, within a second before `now` (UTC)."""
    with closing(_open(folder / "warehouse.db")) as warehouse:
        codes = [code for (code,) in warehouse.execute("SELECT code FROM reference_codes WHERE code_system = 'ICD10'")]
    with closing(_open(folder / "polyclinic.db")) as polyclinic, polyclinic:
        visit_id, latest = _last(polyclinic, "SELECT max(visit_id), max(updated_at) FROM visits")
        patient_id, patient_latest = _last(polyclinic, "SELECT max(patient_id), max(updated_at) FROM patients")
        clock = _Clock(now or datetime.now(UTC), max(latest, patient_latest))
        rng = random.Random(visit_id)  # noqa: S311
        _advance_patients(polyclinic, rng, patient_id, clock)
        _advance_visits(polyclinic, rng, visit_id, patient_id, codes, clock)
    with closing(_open(folder / "nehr.db")) as nehr, nehr:
        diagnosis_id, latest = _last(nehr, "SELECT max(diagnosis_id), max(recorded_at) FROM diagnoses")
        clock = _Clock(now or datetime.now(UTC), latest)
        new = range(diagnosis_id + 1, diagnosis_id + 1 + DIAGNOSES // DAYS)
        _insert(nehr, "diagnoses", [_diagnosis(rng, i, clock.tick(), patient_id, codes) for i in new])


class _Clock:
    """Instants one microsecond apart, from a second before `now` or, if that is later, from the latest row on."""

    def __init__(self, now: datetime, latest: str) -> None:
        self.time = max(now.astimezone(UTC) - timedelta(seconds=1), datetime.fromisoformat(latest).replace(tzinfo=UTC))

    def tick(self) -> datetime:
        self.time += timedelta(microseconds=1)
        return self.time


def _advance_patients(database: sqlite3.Connection, rng: random.Random, last_id: int, clock: _Clock) -> None:
    moved = [(f"{rng.randrange(10**6):06}", _stamp(clock.tick()), i) for i in rng.sample(range(1, last_id + 1), 60)]
    database.executemany("UPDATE patients SET postal_code = ?, updated_at = ? WHERE patient_id = ?", moved)
    new = range(last_id + 1, last_id + 21)
    _insert(database, "patients", [_patient(rng, i, rng.randrange(10**7), clock.tick()) for i in new])


def _advance_visits(
    database: sqlite3.Connection, rng: random.Random, last_id: int, patients: int, codes: Sequence[str], clock: _Clock
) -> None:
    number = max(last_id // DAYS, 100)
    moved = [(_fee(rng), _stamp(clock.tick()), i) for i in rng.sample(range(1, last_id + 1), _share(number, UPDATED))]
    database.executemany("UPDATE visits SET fee = ?, updated_at = ? WHERE rowid = ?", moved)
    new = [_visit(rng, last_id + i, clock.tick(), patients, codes) for i in range(1, number + 1)]
    _insert(database, "visits", _with_story(rng, new, later=lambda _: _stamp(clock.tick())))


def _with_story(rng: random.Random, visits: list[Visit], later: Callable[[Visit], str]) -> list[Visit]:
    """Let some visits be changed later, entered weeks late, written twice or wrong; no visit is two of these."""
    sizes = [_share(len(visits), share) for share in (UPDATED, LATE, DUPLICATE, BAD, ORPHAN)]
    picked = iter(rng.sample(range(len(visits)), sum(sizes)))
    updated, late, duplicate, bad, orphan = (list(islice(picked, size)) for size in sizes)
    for i in updated:
        visits[i] = visits[i]._replace(updated_at=later(visits[i]))
    for i in late:
        day = date.fromisoformat(visits[i].visit_date) - timedelta(days=rng.randint(7, 30))
        visits[i] = visits[i]._replace(visit_date=str(day))
    for kind, i in enumerate(bad):
        visits[i] = visits[i]._replace(**DEFECTS[kind % len(DEFECTS)])
    for i in orphan:
        visits[i] = visits[i]._replace(patient_id=UNKNOWN_PATIENT + i)
    return visits + [visits[i]._replace(updated_at=later(visits[i])) for i in duplicate]


def _visit(rng: random.Random, visit_id: int, moment: datetime, patients: int, codes: Sequence[str]) -> Visit:
    stamp = _stamp(moment)
    return Visit(
        visit_id=visit_id,
        patient_id=rng.randint(1, patients),
        clinic_code=rng.choice(CLINICS),
        visit_date=str(moment.date()),
        visit_type=rng.choice(VISIT_TYPES),
        diagnosis_code=rng.choice(codes) if rng.random() < 0.8 else None,
        systolic_bp=min(max(round(rng.gauss(125, 18)), 80), 220) if rng.random() < 0.7 else None,
        fee=_fee(rng),
        created_at=stamp,
        updated_at=stamp,
    )


def _patient(rng: random.Random, patient_id: int, number: int, moment: datetime) -> Row:
    name = f"{rng.choice(FAMILY_NAMES)} {rng.choice(GIVEN_NAMES)}"
    return (
        patient_id,
        f"{rng.choice('STFGM')}{number:07}{rng.choice('ABCDEFGHIZJKLMNPQRTUWX')}",
        f"  {name} " if rng.random() < 0.02 else name,
        str(date(1930, 1, 1) + timedelta(days=rng.randrange(95 * 365))),
        "U" if rng.random() < 0.01 else rng.choice("MF"),
        f"{rng.randrange(10**6):06}",
        _stamp(moment),
    )


def _diagnosis(rng: random.Random, diagnosis_id: int, moment: datetime, patients: int, codes: Sequence[str]) -> Row:
    patient, severity = rng.randint(1, patients), rng.choice(SEVERITIES)
    return (diagnosis_id, patient, rng.choice(codes), str(moment.date()), severity, _stamp(moment))


def _references(rng: random.Random) -> list[Row]:
    every = [f"{letter}{i:02}.{j}" for letter in "ABCDEFGHIJKLMNOPQRSTZ" for i in range(100) for j in range(10)]
    codes = sorted({*KNOWN_CODES, *rng.sample(every, ICD10_CODES - len(KNOWN_CODES))})
    names = {code: KNOWN_CODES.get(code, f"Fictional disorder {code}") for code in codes}
    retired = set(rng.sample(codes, 40))
    diseases = [("ICD10", code, names[code], "2010-01-01", "2023-12-31" if code in retired else None) for code in codes]
    clinics = [("CLINIC", code, f"Polyclinic {code[3:]}", "2000-01-01", None) for code in CLINICS]
    types = [("VISIT_TYPE", code, code.replace("_", " ").capitalize(), "2000-01-01", None) for code in VISIT_TYPES]
    return [*diseases, *clinics, *types]


def _fee(rng: random.Random) -> float:
    return rng.randrange(30_000) / 100


def _moment(rng: random.Random, end: datetime) -> datetime:
    """Any microsecond of the 90 days before `end`."""
    return end - timedelta(microseconds=rng.randint(1, DAYS * 86_400 * 10**6))


def _opening_hours(rng: random.Random, end: datetime) -> datetime:
    """A second between 8:00 and 21:00 in Singapore, which is 0:00 to 13:00 UTC, on one of the 90 days before `end`."""
    day = end.date() - timedelta(days=rng.randint(1, DAYS))
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=rng.randrange(13 * 3600))


def _within_20_days(rng: random.Random, visit: Visit, end: datetime) -> str:
    created = datetime.fromisoformat(visit.created_at).replace(tzinfo=UTC)
    room = min(end - created, timedelta(days=20)) // timedelta(microseconds=1)
    return _stamp(created + timedelta(microseconds=rng.randrange(1, room)))


def _stamp(moment: datetime) -> str:
    return moment.isoformat(" ").removesuffix("+00:00")


def _share(number: int, share: float) -> int:
    return max(1, round(number * share))


def _open(path: Path) -> sqlite3.Connection:
    """A file that exists; `connect` by itself would create one."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)


def _last(database: sqlite3.Connection, query: str) -> tuple[int, str]:
    """The highest key and the latest timestamp."""
    found: tuple[int, str] = database.execute(query).fetchone()
    return found


def _create(path: Path, **tables: Sequence[Row]) -> None:
    """Fill a new file beside `path`, then put it there: whoever reads sees the old one or the new one."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished)) as database, database:
        database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        database.executescript((Path(__file__).parent / "tables" / f"{path.stem}.sql").read_text())
        for table, rows in tables.items():
            _insert(database, table, rows)
    unfinished.replace(path)


def _insert(database: sqlite3.Connection, table: str, rows: Sequence[Row]) -> None:
    marks = ", ".join("?" * len(rows[0]))
    database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Create the demo databases, or add a day to them.")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--advance", action="store_true", help="add a day of changes, stamped now, to what is there")
    arguments = parser.parse_args()
    (advance if arguments.advance else generate)(arguments.folder)


if __name__ == "__main__":
    main()
