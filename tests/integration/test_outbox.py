"""The end of a run is told once, though processes are killed and channels are down when it comes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.etl.alerts import callbacks, outbox, report
from include.etl.alerts.conditions import Ended
from include.etl.alerts.later import tell_later
from include.etl.alerts.memory import remembered
from include.etl.alerts.report import tell_of_run
from include.etl.sources import load_source
from include.etl.storage import Storage
from tests.inboxes import CARD, HOOK, Posts, web_server
from tests.integration.conftest import VISITS, Project

CHAT = """
alerts:
  channels: {chat: {type: slack, conn_id: slack_hook}}
"""
TEAM = """
alerts:
  channels: {team: {type: teams, conn_id: teams}}
"""


class Killed(BaseException):
    """The process ends here; nothing that comes after it happens."""


@pytest.fixture
def posts(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Posts]:
    project.configure(VISITS + CHAT)
    monkeypatch.setattr(callbacks, "_spent", [0.0])
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/")
    with web_server() as posts:
        for name, value in posts.connections.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", value)
        yield posts


def titles(posts: Posts, path: str = HOOK) -> list[str]:
    return [post["text"] for post in posts.at(path)]


def end(run_id: str = "night", *, failed: bool = True, at: datetime | None = None, source: str = "visits") -> None:
    tell_of_run(load_source(source), Ended("visits", run_id, failed, at or datetime.now(UTC)))


def callback(run_id: str) -> None:
    context = {"dag": SimpleNamespace(dag_id="visits"), "run_id": run_id}
    callbacks.run_ended(load_source("visits"), context, failed=True)


def entries(project: Project) -> list[Path]:
    return sorted((project.folder / "data/alerts/visits/outbox").glob("*.json"))


def times() -> int:
    with remembered(Storage.from_environment(), "visits") as memory:
        return int(memory.open["failure visits"]["times"])


@pytest.mark.parametrize("where", ["remembered", "after_run", "tell"])
def test_a_process_that_is_killed_is_made_up_for(
    project: Project, posts: Posts, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(report, where, killed)
        with pytest.raises(Killed):
            end()
    assert titles(posts) == []
    assert tell_later() == 0
    assert titles(posts) == ["[FAILED] visits: run failed"]
    assert "in a row" not in str(posts.at(HOOK)), "the same end counted twice"
    assert tell_later() == 0
    assert len(titles(posts)) == 1


def test_what_no_channel_took_is_told_later_and_counts_once(project: Project, posts: Posts) -> None:
    posts.status[HOOK] = 500
    end("first")
    end("second")
    assert tell_later() == 2
    posts.status.clear()
    posts.received.clear()
    assert tell_later() == 0
    assert [post["text"] for post in posts.at(HOOK)] == ["[FAILED] visits: run failed"] * 2
    assert ["2 runs in a row have failed" in str(post) for post in posts.at(HOOK)] == [False, True]
    assert times() == 2
    assert entries(project) == []


def test_recovery_that_reached_nobody_is_told_later(project: Project, posts: Posts) -> None:
    end()
    posts.status[HOOK] = 500
    project.run()
    end("next", failed=False)
    posts.status.clear()
    posts.received.clear()
    assert tell_later() == 0
    assert titles(posts) == ["[OK] visits: recovered"]


def test_a_storm_is_noted_at_once_and_told_later(
    project: Project, posts: Posts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The DAG processor gives all callbacks of a file 50 s; a slow channel may not use them up."""
    clock = iter(range(0, 1000, 4))  # each look at the clock is 4 s later
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for number in range(5):
        callback(f"run {number}")
    assert len(titles(posts)) == 2
    assert len(entries(project)) == 3
    assert tell_later() == 0
    assert len(titles(posts)) == 5
    assert [f"runs/run%20{number}" in str(post) for number, post in enumerate(posts.at(HOOK))] == [True] * 5


def test_a_dead_channel_hides_no_other_source(project: Project, posts: Posts, monkeypatch: pytest.MonkeyPatch) -> None:
    project.configure((VISITS + TEAM).replace("source: visits", "source: wards"), "wards")
    posts.status.update({HOOK: 500, CARD: 500})
    end()
    end(source="wards")
    posts.status.pop(CARD)
    posts.received.clear()
    assert tell_later() == 1
    assert len(posts.at(CARD)) == 1


def test_two_processes_tell_it_once(project: Project, posts: Posts) -> None:
    posts.status[HOOK] = 500
    end()
    posts.status.clear()
    posts.received.clear()
    (path,) = entries(project)
    with outbox.taken(path, "visits"):
        assert tell_later() == 1
    assert titles(posts) == []
    assert tell_later() == 0
    report.tell_waiting(load_source("visits"), Storage.from_environment(), path)
    assert len(titles(posts)) == 1


def test_what_reaches_nobody_for_days_is_given_up(
    project: Project, posts: Posts, caplog: pytest.LogCaptureFixture
) -> None:
    posts.status[HOOK] = 500
    end(at=datetime.now(UTC) - outbox.KEPT + timedelta(minutes=1))
    assert tell_later() == 1
    end("old", at=datetime.now(UTC) - outbox.KEPT)
    assert tell_later() == 1
    assert "nobody was told of run old" in caplog.text


def test_a_damaged_entry_is_named_and_hides_no_other(project: Project, posts: Posts) -> None:
    posts.status[HOOK] = 500
    end("first")
    end("second")
    first, _ = entries(project)
    first.write_text('{"ended": {"dag_id": "visits"}}')
    posts.status.clear()
    posts.received.clear()
    with pytest.raises(ExceptionGroup) as raised:
        tell_later()
    assert "ended.run_id" in str(raised.value.exceptions[0])
    assert len(titles(posts)) == 1


def test_a_full_disk_is_told_of(project: Project, posts: Posts) -> None:
    """Nothing can be noted: it is told without."""
    folder = project.folder / "data" / "alerts"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    end()
    assert titles(posts) == ["[FAILED] visits: run failed"]
