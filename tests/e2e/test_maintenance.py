"""The maintenance DAG through a running Airflow: a dry run, then for real."""

from __future__ import annotations

import os
import time

import pytest

from include.etl.maintenance import backups
from include.etl.records import audit_check
from include.etl.storage import Storage
from tests.e2e.conftest import Stage

pytestmark = pytest.mark.e2e


def test_maintenance_lists_first_and_deletes_when_told(stage: Stage) -> None:
    storage = Storage(stage.data)
    old = storage.folder("raw", "gone_source", "a-run") / "part.parquet"
    old.write_bytes(b"x" * 100)
    then = time.time() - 90 * 86_400
    for path in (old, old.parent):
        os.utime(path, (then, then))
    assert stage.trigger("maintenance")["state"] == "success"
    assert old.exists()
    assert stage.trigger("maintenance", dry_run=False)["state"] == "success"
    assert not old.parent.exists()
    lines = [line for line in audit_check.entries(storage) if line["who"] != "scheduler"]  # its own first run
    planned, deleted = (
        [one for one in lines if one["action"] == f"maintenance {what}"] for what in ("planned", "deleted")
    )
    assert len(planned) == 2
    assert planned[0]["totals"]["raw"]["entries"] == 1
    assert [one["paths"] for one in deleted] == [["raw/gone_source/a-run"]]
    assert deleted[0]["who"]
    assert len(backups.names(storage)) >= 2
    assert "broken.yaml" in [problem.split(":")[0] for problem in backups.verify(storage)["problems"]]
