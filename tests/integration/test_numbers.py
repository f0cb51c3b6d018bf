"""A source whose cursor is a number, from plan to manifest, on SQLite."""

from __future__ import annotations

import json

import pytest

from include.etl import run as runner
from tests.integration.conftest import Project

SOURCE = """
source: visits
description: Rows that are only added
conn_id: clinic
table: visits
primary_key: [visit_id]
cursor: {column: visit_id, type: number}
schedule: {incremental: "0 2 * * *"}
output: {formats: [parquet, csv, excel]}
load: LOAD
"""


@pytest.mark.parametrize("load", ["append", "merge"])
def test_runs_read_on_from_the_last_number(project: Project, load: str) -> None:
    project.configure(SOURCE.replace("LOAD", load))
    assert not runner.run_source("visits").plan.slices, "an empty table"
    project.execute("INSERT INTO visits (visit_id) VALUES (?)", [(number,) for number in range(-2, 10)])
    first = runner.run_source("visits")
    count = first.publication.rows.published
    assert count == 12
    assert first.plan.window.start is None
    bound = json.loads(project.variables["checkpoint__visits"])["bound"]
    assert bound == first.plan.window.end
    assert not runner.run_source("visits").plan.slices, "nothing new"
    again = runner.run_source("visits", mode="range", start=str(bound - 1), end=str(bound))
    assert again.publication.rows.extracted == 1
    full = runner.run_source("visits", mode="full")
    assert full.to_arrow().num_rows == count
    assert full.to_arrow().schema.field("_window_end").type == "int64"
