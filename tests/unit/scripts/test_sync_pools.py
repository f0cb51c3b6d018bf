import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from include.etl.sources import load_sources
from scripts.local_airflow import ROOT
from scripts.sync_pools import wanted_pools

SOURCE = """
source: {name}
description: A source
conn_id: {name}_db
{pool}
table: t
schedule: {{full: "@daily"}}
output: {{formats: [parquet]}}
"""


@pytest.fixture
def include(tmp_path: Path) -> Path:
    (tmp_path / "sources").mkdir()
    for name, pool in (("a", ""), ("b", "pool: shared"), ("c", "pool: shared")):
        (tmp_path / "sources" / f"{name}.yaml").write_text(SOURCE.format(name=name, pool=pool))
    (tmp_path / "sources" / "broken.yaml").write_text("source: broken\n")
    return tmp_path


def test_one_pool_for_each_database(include: Path) -> None:
    pools = wanted_pools(load_sources(include / "sources"))
    assert {name: pool["slots"] for name, pool in pools.items()} == {"a_db": 5, "shared": 5}


def test_missing_pools_are_made_and_others_keep_their_slots(include: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHONPATH"))}
    environment |= {"AIRFLOW_HOME": str(tmp_path / "home"), "ETL_INCLUDE": str(include)}
    environment["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    migrate = [str(Path(sys.executable).parent / "airflow"), "db", "migrate"]
    subprocess.run(migrate, env=environment, capture_output=True, check=True)
    with closing(sqlite3.connect(tmp_path / "home" / "airflow.db")) as database:
        with database:
            database.execute("INSERT INTO slot_pool (pool, slots, include_deferred) VALUES ('shared', 2, FALSE)")
        script = [sys.executable, "scripts/sync_pools.py"]
        done = subprocess.run(script, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
        slots = dict(database.execute("SELECT pool, slots FROM slot_pool"))
    assert done.stdout == "pools made: a_db\n"
    assert (slots["a_db"], slots["shared"]) == (5, 2)
