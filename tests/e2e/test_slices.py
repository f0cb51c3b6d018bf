"""Slices as mapped tasks: so many at once, and one whose connection is cut is read again alone."""

from __future__ import annotations

from contextlib import closing

import pytest

from include.etl.dag_factory import PARALLEL_SLICES
from tests.e2e.conftest import Stage
from tests.servers import DatabaseServer

pytestmark = pytest.mark.e2e
SLICES = 6
READERS = (
    "SELECT split_part(application_name, ' ', 4)::int FROM pg_stat_activity "
    "WHERE application_name LIKE 'moh-etl big slice %' AND wait_event_type = 'Lock'"
)


def test_a_slice_whose_connection_is_cut_is_read_again_alone(stage: Stage, postgres_server: DatabaseServer) -> None:
    """A lock on the table holds all readers at their first query until the test has seen and done what it wants.

    It is taken once plan, which opens the table too, has ended: a reader's process takes longer than that to start.
    """
    execute = postgres_server.execute
    execute("DROP TABLE IF EXISTS big")
    execute("CREATE TABLE big (id BIGINT PRIMARY KEY, updated_at TIMESTAMP)")
    execute(f"INSERT INTO big SELECT n, timestamp '2024-01-01' FROM generate_series(1, {SLICES}000) n")
    execute("ANALYZE big")
    api, most = stage.airflow.api, 0

    def reading() -> list[int]:
        nonlocal most
        found = sorted(number for (number,) in execute(READERS))
        most = max(most, len(found))
        return found

    api.wait_for_dag("big")
    api.pause("big", False)
    run_id = api.trigger("big")

    def planned() -> bool:
        found = {one["task_id"]: one["state"] for one in api.task_instances("big", run_id)}
        return found.get("plan") == "success"

    with closing(postgres_server.connect()) as holder, holder.cursor() as cursor:
        api.wait_until("plan", planned, 90, 0.05)
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE big IN ACCESS EXCLUSIVE MODE")
        api.wait_until("readers", lambda: len(reading()) == PARALLEL_SLICES, 90)
        killed = reading()[2]
        execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s",
            [f"moh-etl big slice {killed} %"],
        )
        api.wait_until("the place taken", lambda: len(reading()) == PARALLEL_SLICES, 90)
        cursor.execute("ROLLBACK")
    assert stage.finish("big", run_id)["state"] == "success", stage.errors("big", run_id)
    tries = {
        found["map_index"]: found["try_number"]
        for found in api.task_instances("big", run_id)
        if found["task_id"] == "extract"
    }
    assert tries == {number: 2 if number == killed else 1 for number in range(SLICES)}
    assert most == PARALLEL_SLICES
    assert [row[0] for row in stage.rows("big", "id")] == list(range(1, SLICES * 1000 + 1))
    (manifest,) = stage.manifests("big")
    assert manifest["consistency"] == "a snapshot per slice"
