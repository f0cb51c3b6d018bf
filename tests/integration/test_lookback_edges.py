"""Published rows on the edge of what the lookback reads again, in files of their own or in one, are published once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.integration.conftest import VISITS, Project
from tests.integration.test_boundaries import bound_of
from tests.integration.test_publication import INSERT, visit

CHECKPOINT = datetime(2024, 1, 9, 12, tzinfo=UTC)
KEY, INSTANT, HOUR = "checkpoint__visits", timedelta(microseconds=1), timedelta(hours=1)
BESIDE = [-HOUR - INSTANT, -HOUR, -HOUR + INSTANT, -INSTANT, timedelta(0), INSTANT]


def run_again(project: Project, checkpoint: datetime) -> dict[str, object]:
    """What the next run publishes, of which the last one is as if it had ended here."""
    text = project.variables[KEY]
    project.variables[KEY] = text.replace(bound_of(project), checkpoint.isoformat())
    rows: dict[str, object] = project.run().manifest["rows"]
    return rows


@pytest.mark.parametrize("load", ["append", "merge"])
@pytest.mark.parametrize(("zone", "apart"), [("UTC", 1), ("UTC", 0), ("Asia/Singapore", 1)])
def test_moments(project: Project, load: str, zone: str, apart: int) -> None:
    """The row at checkpoint less lookback is the first that is read again; that at the checkpoint is read anyway."""
    project.configure(VISITS.replace("lookback: 1h", f"lookback: 1h, timezone: {zone}") + f"load: {load}\n")
    moments = [(CHECKPOINT + beside).astimezone(ZoneInfo(zone)).replace(tzinfo=None) for beside in BESIDE]
    project.execute(INSERT, [visit(number, moment, day=1 + number * apart) for number, moment in enumerate(moments)])
    project.run()
    before = project.rows()
    project.execute("UPDATE visits SET note = 'corrected'")
    found = run_again(project, CHECKPOINT)
    assert found["extracted"] == len(BESIDE) - 1
    assert found["published"] == 2
    assert project.rows() == before
    assert [note for _, note in project.rows("visit_id, note")] == ["fine"] * 4 + ["corrected"] * 2


@pytest.mark.parametrize("load", ["append", "merge"])
def test_days(project: Project, load: str) -> None:
    cursor = "{column: visit_date, lookback: 1d}"
    project.configure(VISITS.replace("{column: updated_at, lookback: 1h}", cursor) + f"load: {load}\n")
    project.execute(INSERT, [visit(day, CHECKPOINT.replace(tzinfo=None), day) for day in range(1, 8)])
    project.run()
    before = project.rows("visit_id, visit_date")
    found = run_again(project, CHECKPOINT.replace(day=4, hour=0))
    assert (found["extracted"], found["published"]) == (5, 4)
    assert project.rows("visit_id, visit_date") == before


def test_a_new_row_on_the_edge_is_published(project: Project) -> None:
    """It came late; those before the edge are what the lookback is too short for."""
    project.execute(INSERT, [visit(1, CHECKPOINT.replace(tzinfo=None))])
    project.run()
    late = [(CHECKPOINT + beside).replace(tzinfo=None) for beside in BESIDE[:3]]
    project.execute(INSERT, [visit(number, moment) for number, moment in enumerate(late, 10)])
    run_again(project, CHECKPOINT)
    assert [row[0] for row in project.rows()] == [1, 11, 12]
