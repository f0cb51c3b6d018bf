import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    run: Callable[..., Any] = lambda *command: subprocess.run(  # noqa: E731
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    airflow, script = str(Path(sys.executable).parent / "airflow"), [sys.executable, "scripts/sync_pools.py"]
    run(airflow, "db", "migrate")
    run(airflow, "pools", "set", "shared", "2", "by hand")
    assert run(*script).stdout == "pools made: a_db\n"
    run(airflow, "pools", "export", str(tmp_path / "pools.json"))
    slots = {name: pool["slots"] for name, pool in json.loads((tmp_path / "pools.json").read_text()).items()}
    assert (slots["a_db"], slots["shared"]) == (5, 2)
    assert run(*script).stdout == "pools made: none, all exist\n"
