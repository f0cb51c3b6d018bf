"""Late data is told once, whatever the reason that nothing came, and its end too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from include.etl.alerts import freshness
from include.etl.alerts.callbacks import deadline_missed
from include.etl.alerts.conditions import Ended
from include.etl.alerts.report import tell_of_deadline, tell_of_run
from include.etl.records import manifest
from include.etl.sources import load_source
from include.etl.storage import Storage, read_json, write_json
from tests.inboxes import HOOK, Posts, web_server
from tests.integration.conftest import VISITS, Project

ALERTS = """
alerts:
  channels: {chat: {type: slack, conn_id: slack_hook}}
  late_after: 3h
"""
MONDAY = datetime(2026, 11, 23, 2, tzinfo=UTC)
"""A moment of the schedule, which is every night at 2."""
LATE = {
    "dag_run": {
        "dag_id": "visits",
        "dag_run_id": "scheduled__x",
        "state": "running",
        "queued_at": "2026-11-23T02:00:05Z",
    }
}


@pytest.fixture
def posts(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Posts]:
    project.configure(VISITS + ALERTS)
    (project.folder / "sources" / "_defaults.yaml").write_text(ALERTS)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/")
    with web_server() as posts:
        for name, value in posts.connections.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", value)
        yield posts


def titles(posts: Posts) -> list[str]:
    return [post["text"] for post in posts.at(HOOK)]


def said(posts: Posts) -> str:
    return "\n".join(block["text"]["text"] for block in posts.at(HOOK)[-1]["blocks"])


def published(project: Project, end: datetime, at: datetime, mode: str = "incremental") -> None:
    """A real publication, moved to this time and window."""
    if not list(project.published.glob("_manifests/*.json")):
        project.run()
    (path,) = project.published.glob("_manifests/*.json")
    found = read_json(path)
    found["published_at"] = at.isoformat()
    found["window"] |= {"mode": mode, "end": end.isoformat()}
    write_json(path, found)
    assert manifest.current(Storage.from_environment(), "visits")


def test_a_run_that_never_starts_is_told_once(project: Project, posts: Posts) -> None:
    published(project, MONDAY, MONDAY + timedelta(minutes=5))
    assert freshness.check_all(MONDAY + timedelta(hours=26, minutes=59)) == []
    for hours in (27, 28, 40):
        assert freshness.check_all(MONDAY + timedelta(hours=hours)) == ["visits"]
    assert titles(posts) == ["[LATE] visits: late data"]
    assert "nothing was published for the schedule of 2026-11-24 02:00" in said(posts)
    assert "data reaches up to 2026-11-23 02:00" in said(posts)
    assert "Since: 2026-11-24 02:00 (UTC)" in said(posts)
    assert "<https://airflow.example.org/dags/visits|DAG>" in said(posts)
    published(project, MONDAY + timedelta(days=1), MONDAY + timedelta(hours=41))
    assert freshness.check_all(MONDAY + timedelta(hours=42)) == []
    assert titles(posts)[1:] == ["[OK] visits: recovered"]


def test_what_reached_nobody_is_told_again(project: Project, posts: Posts) -> None:
    published(project, MONDAY, MONDAY)
    project.configure("source: broken\n", "broken")
    posts.status[HOOK] = 500
    for hours in (27, 28):
        freshness.check_all(MONDAY + timedelta(hours=hours))
    deadline_missed(LATE)
    posts.status.clear()
    posts.received.clear()
    for hours in (29, 30):
        freshness.check_all(MONDAY + timedelta(hours=hours))
    assert titles(posts) == ["[FAILED] broken: run failed", "[LATE] visits: late data"]
    assert "Since: 2026-11-24 02:00 (UTC)" in said(posts)


@pytest.mark.parametrize(
    ("end", "at", "mode"),
    [
        (-24, 25, "incremental"),  # an old run was cleared
        (10, 10, "incremental"),  # triggered by hand the day before
        (24, 25, "range"),
        (24, 25, "backfill"),
    ],
)
def test_what_does_not_count_as_fresh(project: Project, posts: Posts, end: int, at: int, mode: str) -> None:
    assert freshness.check_all(MONDAY) == []
    published(project, MONDAY + timedelta(hours=end), MONDAY + timedelta(hours=at), mode)
    assert freshness.check_all(MONDAY + timedelta(hours=27)) == ["visits"]


def test_a_window_that_a_writer_held_back_is_fresh(project: Project, posts: Posts) -> None:
    published(project, MONDAY + timedelta(hours=23, minutes=30), MONDAY + timedelta(hours=24, minutes=5))
    assert freshness.check_all(MONDAY + timedelta(hours=27)) == []


@pytest.mark.parametrize(
    ("zone", "moment"),
    [("Asia/Singapore", 18 - 24), ("America/Los_Angeles", 10)],  # two in the morning there, of this date
)
def test_the_schedule_is_that_of_the_sources_zone(project: Project, posts: Posts, zone: str, moment: int) -> None:
    project.configure(VISITS + ALERTS + f"timezone: {zone}\n")
    midnight = MONDAY.replace(hour=0)
    published(project, midnight + timedelta(hours=moment), midnight + timedelta(hours=moment + 1))
    last = midnight + timedelta(hours=moment + 24 + 3)
    assert freshness.check_all(last - timedelta(seconds=1)) == []
    assert freshness.check_all(last) == ["visits"]
    assert "nothing was published for the schedule of 2026-11-24 02:00" in said(posts)


def test_a_new_source_has_a_whole_interval(project: Project, posts: Posts) -> None:
    assert freshness.check_all(MONDAY + timedelta(hours=5)) == []
    assert freshness.check_all(MONDAY + timedelta(hours=26)) == []
    assert freshness.check_all(MONDAY + timedelta(hours=27)) == ["visits"]
    assert "nothing was ever published" in said(posts)


def test_a_source_that_cannot_be_read_is_told_once_and_hides_no_other(project: Project, posts: Posts) -> None:
    published(project, MONDAY, MONDAY)
    project.configure("source: broken\n", "broken")
    for hours in (27, 28):
        assert freshness.check_all(MONDAY + timedelta(hours=hours)) == ["visits"]
    assert titles(posts) == ["[FAILED] broken: run failed", "[LATE] visits: late data"]
    assert "broken.yaml: conn_id: missing" in str(posts.at(HOOK)[0])


def test_what_cannot_be_judged_fails_at_the_end(project: Project, posts: Posts) -> None:
    published(project, MONDAY, MONDAY)
    (path,) = project.published.glob("_manifests/*.json")
    path.write_text("{")
    project.configure((VISITS + ALERTS).replace("source: visits", "source: wards"), "wards")
    freshness_of = datetime(2026, 11, 20, tzinfo=UTC)
    with pytest.raises(ExceptionGroup):
        freshness.check_all(freshness_of)
    with pytest.raises(ExceptionGroup):
        freshness.check_all(MONDAY + timedelta(hours=27))
    assert titles(posts) == ["[LATE] wards: late data"]


@pytest.mark.parametrize(("state", "told"), [("running", 1), ("failed", 0), ("success", 0)])
def test_a_missed_deadline_is_told_while_the_run_is_at_work(
    project: Project, posts: Posts, state: str, told: int
) -> None:
    context = {"dag_run": LATE["dag_run"] | {"state": state}}
    for _ in range(2):
        deadline_missed(context)
    assert titles(posts) == ["[LATE] visits: late data"] * told
    if told:
        assert "the run is still at work 3 hours after it was queued" in said(posts)
        assert "Since: 2026-11-23 02:00 (UTC)" in said(posts)
        published(project, MONDAY, MONDAY)
        freshness.check_all(MONDAY + timedelta(hours=27))
        assert len(titles(posts)) == 1, "told already"


def ended(*, failed: bool = False) -> None:
    tell_of_run(load_source("visits"), Ended("visits", "scheduled__x", failed, datetime.now(UTC)))


@pytest.mark.parametrize("before", [False, True])
def test_a_run_past_its_deadline_is_right_again_when_it_ends_and_not_before(
    project: Project, posts: Posts, before: bool
) -> None:
    """Whether the source was ever published before or not: that its data is not late does not end the run."""
    if before:
        published(project, MONDAY, MONDAY + timedelta(minutes=5))
    deadline_missed(LATE)
    assert freshness.check_all(MONDAY + timedelta(hours=4)) == []
    assert titles(posts) == ["[LATE] visits: late data"]
    ended()
    ended()
    assert titles(posts)[1:] == ["[OK] visits: recovered"]


def test_a_run_past_its_deadline_hides_no_later_night(project: Project, posts: Posts) -> None:
    """It fails, or somebody marks it as failed, of which nobody hears; then the scheduler stops."""
    published(project, MONDAY, MONDAY)
    deadline_missed(LATE)
    ended(failed=True)
    next_year = MONDAY.replace(year=datetime.now(UTC).year + 1)
    for hours in (4, 5):
        assert freshness.check_all(next_year + timedelta(hours=hours)) == ["visits"]
    assert titles(posts)[2:] == ["[LATE] visits: late data"]
    published(project, next_year, next_year + timedelta(hours=6))
    assert freshness.check_all(next_year + timedelta(hours=7)) == []
    ended()
    assert titles(posts)[3:] == ["[OK] visits: recovered"] * 2  # the data's, and the failed run's


def test_a_deadline_that_reached_nobody_is_told_by_freshness(project: Project, posts: Posts) -> None:
    published(project, MONDAY, MONDAY)
    posts.status[HOOK] = 500
    deadline_missed(LATE)
    posts.status.clear()
    posts.received.clear()
    assert freshness.check_all(MONDAY + timedelta(hours=27)) == ["visits"]
    assert titles(posts) == ["[LATE] visits: late data"]


def test_a_deadline_is_not_told_of_a_run_that_ended_meanwhile(project: Project, posts: Posts) -> None:
    """Airflow says how the run was when its deadline passed; executors may be busy for long."""
    run_id = project.run().publication.run_id
    tell_of_deadline(load_source("visits"), "by hand", run_id, MONDAY, MONDAY)
    assert titles(posts) == []


def test_deadlines_of_the_dags(project: Project) -> None:
    from include.etl.dag_factory import build_dags

    project.configure(VISITS + ALERTS)
    (dag,) = build_dags(load_source("visits"))
    (deadline,) = dag.deadline
    assert (deadline.interval, deadline.callback.path) == (
        timedelta(hours=3),
        "include.etl.alerts.callbacks.deadline_missed",
    )
