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


ONCE = SOURCE.replace("table: visits", "table: numbered").replace("visit_id", "id").replace("LOAD", "append")


def test_numbers_that_come_again_are_told(project: Project) -> None:
    """SQLite gives the number of a newest row that was deleted to a new one, and no run would read it."""
    project.configure(ONCE)
    project.execute("CREATE TABLE numbered (id INTEGER PRIMARY KEY, note TEXT)")
    project.execute("INSERT INTO numbered VALUES (?, ?)", [(n, "first") for n in range(1, 11)])
    first = runner.run_source("visits").publication.bound
    assert "rowid: without AUTOINCREMENT" in first.caveats[0]
    assert (first.grade, first.degraded) == ("not proven", True)
    checkpoint = dict(project.variables)
    project.execute("DELETE FROM numbered WHERE id > 7")
    for left in (7, 8, None):
        if left == 8:
            project.execute("INSERT INTO numbered (note) VALUES ('again')")
        if left is None:
            project.execute("DELETE FROM numbered")
        bound = runner.run_source("visits").plan.bound
        told = "there is no row any more" if left is None else f"the largest number is {left}"
        assert f"{told}, and everything below 11 counts as read" in bound.label
        assert "nothing holds it back" not in bound.label
        assert (bound.grade, bound.degraded) == ("not proven", True)
        assert project.variables == checkpoint


def test_numbers_that_only_grow_leave_no_doubt(project: Project) -> None:
    project.configure(ONCE)
    project.execute("CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT)")
    project.execute("INSERT INTO numbered (note) VALUES ('first')")
    assert runner.run_source("visits").publication.bound.caveats == []
    assert runner.run_source("visits").plan.bound.label == "nothing holds it back"


def was_below(caveats: list[str]) -> list[str]:
    return [one for one in caveats if "again, if any, have not been read" in one]


@pytest.mark.parametrize("cure", ["full", "checkpoint set back", "none"])
def test_numbers_that_came_again_stay_doubted_once_they_have_passed_the_checkpoint(project: Project, cure: str) -> None:
    """By then nothing in the table shows any more that rows were not read: only what was seen in between does."""
    project.configure(ONCE)
    project.execute("CREATE TABLE numbered (id INTEGER PRIMARY KEY, note TEXT)")
    insert = "INSERT INTO numbered VALUES (?, ?)"
    project.execute(insert, [(n, "first") for n in range(1, 11)])
    runner.run_source("visits")
    project.execute("DELETE FROM numbered")
    project.execute(insert, [(n, "again") for n in range(1, 6)])
    assert "the largest number is 5" in runner.run_source("visits").plan.bound.label
    project.execute(insert, [(n, "again") for n in range(6, 16)])
    for read in (5, 0):
        plan = runner.run_source("visits").plan
        assert bool(plan.slices) is bool(read)
        assert "the largest number was 5 at " in was_below(plan.bound.caveats)[0]
        assert (plan.bound.grade, plan.bound.degraded) == ("not proven", True)
    runner.run_source("visits", mode="range", start="1", end="3")
    if cure == "full":
        assert not was_below(runner.run_source("visits", mode="full").publication.bound.caveats), "it reads them"
    if cure == "checkpoint set back":
        checkpoint = json.loads(project.variables["checkpoint__visits"])
        project.variables["checkpoint__visits"] = json.dumps(checkpoint | {"bound": 6})
        assert not was_below(runner.run_source("visits").plan.bound.caveats), "it reads them"
    for _ in range(2):
        assert bool(was_below(runner.run_source("visits").plan.bound.caveats)) is (cure == "none")


@pytest.mark.parametrize(
    ("schedule", "mode", "told"),
    [
        ("full", "full", False),
        ("full", "range", False),
        ("full", "incremental", True),
        ("incremental", "full", True),
        ("incremental", "range", False),
    ],
)
def test_numbers_are_judged_where_a_later_window_goes_on(
    project: Project, schedule: str, mode: str, told: bool
) -> None:
    """Every full run of a source that has no other reads them all, in whatever order they come."""
    project.configure(ONCE.replace("incremental:", f"{schedule}:"))
    project.execute("CREATE TABLE numbered (id INTEGER PRIMARY KEY, note TEXT)")
    project.execute("INSERT INTO numbered (note) VALUES ('first')")
    asked = {"start": "1", "end": "2"} if mode == "range" else {}
    bound = runner.run_source("visits", mode=mode, **asked).publication.bound
    assert (bool(bound.caveats), bound.grade == "not proven") == (told, told)
