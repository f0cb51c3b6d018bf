"""Published rows on the edge of what the lookback reads again, in files of their own or in one, are published once."""

from __future__ import annotations

from collections import Counter
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


PLACES: dict[str, datetime | None] = {
    "none": None,
    "long ago": CHECKPOINT - 2 * HOUR,
    "edge": CHECKPOINT - HOUR,
    "lookback": CHECKPOINT - HOUR / 2,
    "start": CHECKPOINT,
    "window": CHECKPOINT + HOUR / 2,
}


@pytest.mark.parametrize("load", ["append", "merge"])
def test_rows_that_move_from_any_place_to_any_other(project: Project, load: str) -> None:
    """A row is published with one cursor value, and has another when the next run reads; or is gone, or was not there.

    `append` holds every version that was read, once; `merge` the newest of each row, one without cursor is the oldest.
    A version that is read again is taken from the run in whose window it lies; the lookback's copy is left out.
    """
    project.configure(f"{VISITS}load: {load}\n")
    kinds = [*PLACES, "gone"]
    moves = dict(enumerate((before, after) for before in kinds for after in kinds))
    add(project, {number: before for number, (before, _) in moves.items()}, "old")
    project.run()
    project.execute("DELETE FROM visits")
    add(project, {number: after for number, (_, after) in moves.items()}, "new")
    run_again(project, CHECKPOINT)
    expected = [row for number, (before, after) in moves.items() for row in stand(load, number, before, after)]
    assert Counter(project.rows("visit_id, coalesce(updated_at::VARCHAR, ''), note")) == Counter(expected)


def add(project: Project, places: dict[int, str], note: str) -> None:
    found = [(number, PLACES[place]) for number, place in places.items() if place in PLACES]
    rows = [visit(number, moment or CHECKPOINT, 1 + number % 3, note) for number, moment in found]
    project.execute(
        INSERT,
        [(*row[:4], moment and row[4].removesuffix("+00:00")) for row, (_, moment) in zip(rows, found, strict=True)],
    )


def stand(load: str, number: int, before: str, after: str) -> list[tuple[int, str, str]]:
    """What stands of a row that was read at one place, and then lies at the other."""
    read = after not in ("gone", "long ago")
    versions = {} if before == "gone" else {before: "old"}
    if read and (after not in versions or after in ("start", "window")):
        versions[after] = "new"
    order = list(PLACES)
    if load == "merge" and versions:
        newest = max(versions, key=order.index)
        versions = {newest: versions[newest]}
    return [(number, shown(place), note) for place, note in versions.items()]


def shown(place: str) -> str:
    moment = PLACES[place]
    return "" if moment is None else moment.replace(tzinfo=None).isoformat(sep=" ")


def test_a_new_row_on_the_edge_is_published(project: Project) -> None:
    """It came late; those before the edge are what the lookback is too short for."""
    project.execute(INSERT, [visit(1, CHECKPOINT.replace(tzinfo=None))])
    project.run()
    late = [(CHECKPOINT + beside).replace(tzinfo=None) for beside in BESIDE[:3]]
    project.execute(INSERT, [visit(number, moment) for number, moment in enumerate(late, 10)])
    run_again(project, CHECKPOINT)
    assert [row[0] for row in project.rows()] == [1, 11, 12]
