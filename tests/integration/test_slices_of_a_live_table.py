"""What holds while rows change between two slices, each of which sees the database at a moment of its own."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.etl.handover import Plan
from include.etl.phases.extract import extract
from include.etl.phases.load import load
from include.etl.phases.plan import plan
from include.etl.phases.request import Parameters, Trigger
from include.etl.phases.transform import transform
from include.etl.phases.validate import check
from include.etl.records import manifest
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage
from tests.integration.conftest import Project
from tests.servers import DatabaseServer

pytestmark = pytest.mark.postgres
BEGAN = datetime(2024, 6, 1, tzinfo=UTC)
ROWS = 5_000
VISITS = """
source: visits
description: Visits
conn_id: clinic
table: visits
primary_key: [visit_id]
cursor: {{column: updated_at}}
schedule: {{incremental: "0 2 * * *"}}
output: {{formats: [parquet]}}
split: {{column: {column}, rows: 1000}}
"""


@pytest.fixture
def live(project: Project, postgres_server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> DatabaseServer:
    """A table of PostgreSQL with a row every 40 minutes, and its statistics."""
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", postgres_server.airflow_connection)
    postgres_server.execute("DROP TABLE IF EXISTS visits")
    postgres_server.execute("CREATE TABLE visits (visit_id BIGINT PRIMARY KEY, note TEXT, updated_at TIMESTAMP)")
    postgres_server.execute("CREATE INDEX visits_updated_at ON visits (updated_at)")
    postgres_server.execute(
        "INSERT INTO visits SELECT n, 'new', CASE WHEN n % 50 > 0 THEN timestamp '2024-01-01' + n * interval '40 min' "
        f"END FROM generate_series(1, {ROWS}) n"
    )
    postgres_server.execute("ANALYZE visits")
    return postgres_server


def planned(mode: str | None, now: datetime, project: Project, **asked: Any) -> tuple[Run, Plan]:
    run = Run(load_source("visits"), f"{mode} {now}", Storage.from_environment())
    trigger = Trigger(now, interval=(now - timedelta(hours=1), now), scheduled=True)
    return run, plan(run, Parameters(mode, **asked), trigger, project.memory)


def publish(run: Run, decided: Plan, project: Project, change: Any = lambda: None) -> manifest.Manifest:
    """The run's phases, its slices in any order, with a change of the table before each."""
    parts = list(decided.slices)
    random.Random(4).shuffle(parts)
    extracted = []
    for part in parts:
        change()
        extracted.append(extract(run, decided, part))
    validated, transformed = check(run, decided, extracted), transform(run, decided, extracted)
    loaded = load(run, decided, extracted, validated, transformed, project.memory)
    return manifest.read(run.storage.absolute(loaded.manifest))


def busy(live: DatabaseServer, seed: int, forgetful: bool) -> Any:
    """Clients that write: rows are updated and inserted, some of them without a new value in the cursor's column."""
    chance, moment, number = random.Random(seed), BEGAN, ROWS

    def change() -> None:
        nonlocal moment, number
        moment += timedelta(seconds=1)
        number += 1
        picked = [chance.randint(1, ROWS) for _ in range(200)]
        live.execute("UPDATE visits SET note = 'changed', updated_at = %s WHERE visit_id = ANY(%s)", [moment, picked])
        live.execute("INSERT INTO visits VALUES (%s, 'inserted', %s)", [number, moment])
        if forgetful:
            live.execute("UPDATE visits SET note = 'forgotten' WHERE visit_id %% 3 = 0 AND updated_at < %s", [BEGAN])

    return change


@pytest.mark.parametrize("mode", ["incremental", "full"])
@pytest.mark.parametrize("column", ["visit_id", "updated_at"])
def test_every_row_is_published_once_by_the_run_and_the_next(
    project: Project, live: DatabaseServer, column: str, mode: str
) -> None:
    project.configure(VISITS.format(column=column))
    run, decided = planned(mode, BEGAN, project)
    assert len(decided.slices) == 5
    first = publish(run, decided, project, busy(live, 7, forgetful=True))
    assert first.consistency == "a snapshot per slice"
    ids = {number for (number,) in project.rows("visit_id")}
    read = project.rows("visit_id, coalesce(updated_at::VARCHAR, '')")
    assert max(Counter(read).values()) == 1, "a row that moved to another slice is there in both versions, each once"
    untouched = live.execute("SELECT visit_id FROM visits WHERE updated_at < %s", [BEGAN])
    assert not {number for (number,) in untouched} - ids
    run, decided = planned("incremental", BEGAN + timedelta(hours=1), project)
    assert publish(run, decided, project).consistency == "one snapshot"
    versions = project.rows("visit_id, coalesce(updated_at::VARCHAR, '')")
    assert max(Counter(versions).values()) == 1
    newest = dict(versions)  # an earlier run's version stays beside that of a later one
    assert newest == dict(live.execute("SELECT visit_id, coalesce(updated_at::text, '') FROM visits"))


def test_a_key_that_stays_keeps_its_row_in_one_slice_of_a_full_run(project: Project, live: DatabaseServer) -> None:
    """Also a row that is updated is read once, in its old or its new version; by its place on disk it may be missed."""
    project.configure(VISITS.format(column="visit_id"))
    run, decided = planned("full", BEGAN, project)
    before = dict(live.execute("SELECT ctid::text, visit_id FROM visits"))
    publish(run, decided, project, busy(live, 3, forgetful=True))
    ids = Counter(number for (number,) in project.rows("visit_id"))
    assert set(range(1, ROWS + 1)) <= set(ids)
    assert max(ids.values()) == 1
    moved = dict(live.execute("SELECT visit_id, ctid::text FROM visits"))
    assert any(moved[number] != place for place, number in before.items())


def test_a_large_window_is_cut_on_the_cursor(project: Project, live: DatabaseServer) -> None:
    """Whatever a whole read is cut by: the window's index serves it already."""
    project.configure(VISITS.format(column="visit_id"))
    run, decided = planned("range", BEGAN, project, start="2024-02-01", end="2024-05-01")
    (expected,) = live.execute(
        "SELECT count(*) FROM visits WHERE updated_at >= '2024-02-01' AND updated_at < '2024-05-01'"
    )
    extracted = [extract(run, decided, part) for part in decided.slices]
    assert len(extracted) == 4
    assert sum(part.rows for part in extracted) == expected[0]
    assert min(part.rows for part in extracted) > 600
    _, small = planned("range", BEGAN, project, start="2024-04-20", end="2024-05-01")
    assert len(small.slices) == 1
