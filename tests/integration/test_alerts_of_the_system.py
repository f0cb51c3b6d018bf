"""What is told of tasks that belong to no source, to the channels of the defaults."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from include.etl.alerts import system
from include.etl.errors import StorageError
from include.etl.storage import Storage
from tests.inboxes import HOOK, Posts, web_server
from tests.integration.conftest import Project

NIGHT = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
"""A moment of the default schedule."""


@pytest.fixture
def posts(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Posts]:
    (project.folder / "sources" / "_defaults.yaml").write_text(
        "alerts: {channels: {chat: {type: slack, conn_id: slack_hook}}}\n"
    )
    with web_server() as posts:
        for name, value in posts.connections.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", value)
        yield posts


def context(task: str, error: BaseException | None = None) -> dict[str, Any]:
    return {"ti": SimpleNamespace(dag_id="maintenance", run_id="scheduled__x", task_id=task), "exception": error}


def titles(posts: Posts) -> list[str]:
    return [post["text"] for post in posts.at(HOOK)]


def said(posts: Posts) -> str:
    return "\n".join(block["text"]["text"] for block in posts.at(HOOK)[-1]["blocks"])


def test_a_task_that_fails_is_told_once_and_so_is_its_end(posts: Posts) -> None:
    posts.status[HOOK] = 500
    system.task_failed(context("backup", StorageError("folder x: No space left on device")))
    posts.status.clear()
    for _ in range(2):
        system.task_failed(context("backup", StorageError("folder x: No space left on device")))
    assert titles(posts)[-1:] == ["[FAILED] maintenance: run failed"]
    assert len(posts.at(HOOK)) <= 2
    assert "task backup failed with StorageError" in said(posts)
    assert "No space left" in said(posts)
    system.task_failed(context("check_audit", ValueError("Ann Tan, 1950-01-01")))
    assert "task check_audit failed with ValueError" in said(posts), "another task is another cause"
    assert "Ann Tan" not in said(posts)
    system.task_succeeded(context("plan"))
    system.task_succeeded(context("backup"))
    assert titles(posts)[-1] == "[OK] maintenance: recovered"
    assert "task backup succeeds again" in said(posts)


def test_what_is_found_is_told_each_time(posts: Posts) -> None:
    system.tell_of(context("plan"), "things that are not in order", [], "See docs/maintenance.md.")
    assert titles(posts) == []
    for _ in range(2):
        system.tell_of(context("plan"), "things that are not in order", ["a: b"], "See docs/maintenance.md.")
    assert titles(posts) == ["[WARNING] maintenance: something to look at"] * 2
    assert "things that are not in order: 1" in said(posts)


def test_a_backup_that_was_due_is_missed(project: Project) -> None:
    storage = Storage.from_environment()
    assert system.check_backup(NIGHT + timedelta(hours=12)) == "", "a new system has until its first night"
    assert system.check_backup(NIGHT + timedelta(hours=25, minutes=59)) == ""
    with pytest.raises(StorageError, match="since 2026-11-24 04:30 UTC, there is none"):
        system.check_backup(NIGHT + timedelta(hours=26, minutes=1))
    storage.folder("backups", "20261124T043012Z")
    assert system.check_backup(NIGHT + timedelta(hours=26, minutes=1)) == "20261124T043012Z"
    with pytest.raises(StorageError, match="the newest is 20261124T043012Z"):
        system.check_backup(NIGHT + timedelta(hours=51))
