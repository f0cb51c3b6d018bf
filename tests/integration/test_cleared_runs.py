"""A run that is cleared is planned anew: what an earlier plan of it has read is no part of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from include.etl.errors import StorageError
from include.etl.handover import Bound, Extracted, Plan
from include.etl.phases import plan as planning
from include.etl.phases.extract import extract
from include.etl.phases.load import load
from include.etl.phases.plan import plan
from include.etl.phases.request import Parameters, Trigger
from include.etl.phases.transform import transform
from include.etl.phases.validate import check
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage
from tests.integration.conftest import VISITS, Project
from tests.integration.test_numbers import ONCE

INSERT = "INSERT INTO visits VALUES (?, ?, ?, ?, ?)"
KEYLESS = VISITS.replace("primary_key: [visit_id]\n", "").replace(", lookback: 1h", "")


@pytest.fixture
def run(project: Project) -> Run:
    """Of forty rows that have no key by which a second copy would be found."""
    project.configure(KEYLESS)
    project.execute(INSERT, [(n, "2024-01-01", "1.00", "x", "2024-01-01 08:00:00") for n in range(40)])
    return Run(load_source("visits"), "run", Storage.from_environment())


def planned(project: Project, run: Run, monkeypatch: pytest.MonkeyPatch, cuts: int) -> Plan:
    """A plan of so many slices, by number of the visit."""
    ends = [str(40 * number // cuts) for number in range(1, cuts)]
    parts = [
        {"column": "visit_id", "start": start, "end": end}
        for start, end in zip([None, *ends], [*ends, None], strict=True)
    ]
    made = [planning.slices.Bounds(**part) for part in parts]
    monkeypatch.setattr(planning, "survey", lambda *_: made)
    return plan(run, Parameters(), Trigger(datetime.now(UTC)), project.memory)


def read(run: Run, plan: Plan) -> list[Extracted]:
    return [extract(run, plan, part) for part in plan.slices]


def publish(project: Project, run: Run, plan: Plan, extracted: list[Extracted]) -> Any:
    verdict, interim = check(run, plan, extracted), transform(run, plan, extracted)
    return load(run, plan, extracted, verdict, interim, project.memory)


def test_fewer_slices_than_before(project: Project, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow hands on what all slices of the run have returned, also those that it has removed."""
    first = planned(project, run, monkeypatch, 4)
    earlier = read(run, first)
    publish(project, run, first, earlier)
    again = planned(project, run, monkeypatch, 2)
    publish(project, run, again, [*read(run, again), *earlier[2:]])
    assert [row[0] for row in project.rows()] == list(range(40))


def test_a_plan_whose_slices_were_not_read_again(project: Project, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = planned(project, run, monkeypatch, 2)
    earlier = read(run, first)
    again = planned(project, run, monkeypatch, 2)
    for phase in (check, transform):
        with pytest.raises(StorageError, match=r"slice 0, 1 was not read since; .* Clear the run from its plan on"):
            phase(run, again, earlier)
    assert not project.published.exists() or project.files() == {}


def test_row_versions_are_published(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source compares them as bytes, which a database that has them does; the files hold numbers."""
    project.configure(VISITS.replace("{column: updated_at, lookback: 1h}", "{column: visit_id, type: rowversion}"))
    project.execute(INSERT, [(n, "2024-01-01", "1.00", "x", "2024-01-01 08:00:00") for n in range(1, 40)])
    monkeypatch.setattr("include.etl.phases.extract.cursor.bound", lambda position, *_: position)
    monkeypatch.setattr("include.etl.row_versions.settle", lambda *_: Bound(grade="writers seen", asked=50, safe=50))
    project.run()
    project.run(mode="full")
    assert [row[0] for row in project.rows()] == list(range(1, 40))


def test_what_every_plan_looks_for_anew_is_told_once_and_not_once_it_is_mended(project: Project) -> None:
    project.configure(ONCE)
    project.execute("CREATE TABLE numbered (id INTEGER PRIMARY KEY, note TEXT)")
    project.execute("INSERT INTO numbered VALUES (?, ?)", [(n, "first") for n in range(1, 11)])
    run = Run(load_source("visits"), "run", Storage.from_environment())

    def made() -> Plan:
        return plan(run, Parameters(), Trigger(datetime.now(UTC)), project.memory)

    first = made()
    assert len(first.bound.caveats) == 1
    publish(project, run, first, read(run, first))
    assert made().bound == first.bound
    project.execute("ALTER TABLE numbered RENAME TO former")
    project.execute("CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT)")
    project.execute("INSERT INTO numbered SELECT * FROM former")
    mended = made().bound
    assert (mended.caveats, mended.grade) == ([], "lag"), "SQLite does not show who writes"
