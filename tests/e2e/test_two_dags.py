"""Two DAGs of one source at the same moment: they have the same run id, and must not meet."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Stage

pytestmark = pytest.mark.e2e


def test_nightly_and_weekly_run_of_one_moment(stage: Stage) -> None:
    stage.execute["sqlite"]("DROP TABLE IF EXISTS beds")
    stage.execute["sqlite"]("CREATE TABLE beds (bed_id BIGINT, ward TEXT, updated_at TIMESTAMP)")
    for number in range(30):
        stage.execute["sqlite"](f"INSERT INTO beds VALUES ({number}, 'A', '2024-01-{1 + number % 28:02d} 08:00:00')")
    api, moment = stage.airflow.api, "2024-02-01T02:00:00Z"
    runs = {}
    for dag_id in ("beds", "beds_full"):
        api.wait_for_dag(dag_id, timeout_s=120)
        api.pause(dag_id, False)
    for dag_id in ("beds", "beds_full"):
        body = {"dag_run_id": "the_same", "conf": {}, "logical_date": moment}
        runs[dag_id] = api.call("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"]
    for dag_id, run_id in runs.items():
        assert stage.finish(dag_id, run_id)["state"] == "success", stage.errors(dag_id, run_id)
    assert [row[0] for row in stage.rows("beds", "bed_id")] == list(range(30))


def test_unknown_parameter_is_refused(stage: Stage) -> None:
    run = stage.trigger("visits_sqlite", last_n_day=7)
    assert run["state"] == "failed"
    message = stage.error_text("visits_sqlite", run["dag_run_id"], "plan")
    assert "parameter 'last_n_day' is unknown; allowed: mode, start, end" in message
