"""Runs of real sources, told through the providers' own hooks to a real mail server and a real web server."""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.etl.alerts import delivery
from include.etl.alerts import memory as memories
from include.etl.alerts.conditions import Ended
from include.etl.alerts.memory import remembered
from include.etl.alerts.report import tell_of_run
from include.etl.errors import ExtractionError
from include.etl.lock import locked
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage
from tests.inboxes import API, CARD, HOOK, Mails, Posts, mail_server, silent_server, web_server
from tests.integration.conftest import VISITS, Project

ALL = """
alerts:
  channels:
    mail: {type: email, conn_id: alert_mail, to: [night@example.org, lead@example.org]}
    hook: {type: slack, conn_id: slack_hook}
    bot: {type: slack, conn_id: slack_api, channel: "#night"}
    card: {type: teams, conn_id: teams}
"""
CHAT = """
alerts:
  channels: {chat: {type: slack, conn_id: slack_hook}}
"""
SUITE = {
    "name": "visits",
    "expectations": [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "fee", "min_value": 0}, "severity": one}
        for one in ("critical", "warning")
    ],
}


@dataclass
class Ward:
    """A project whose alerts arrive."""

    project: Project
    mails: Mails
    posts: Posts

    def configure(self, *more: str) -> None:
        self.project.configure("".join([VISITS.replace("lookback: 1h", "lookback: 1h, lag: 1s"), *more]))

    def insert(self, *rows: tuple[Any, ...]) -> None:
        self.project.execute("INSERT INTO visits VALUES (?, '2024-01-01', ?, ?, '2024-01-01 08:00:00')", list(rows))

    def run(self, **parameters: Any) -> dict[str, Any]:
        """Run the source, and let Airflow's callback be called; the run's record."""
        with suppress(ExtractionError):
            self.project.run(**parameters)
        summaries = [
            json.loads(path.read_text()) for path in self.project.folder.glob("data/runs/visits/*/summary.json")
        ]
        last: dict[str, Any] = max(summaries, key=lambda found: found["phases"][0]["started_at"])
        self.tell(last["run_id"], last["status"] == "failed")
        return last

    def tell(self, run_id: str, failed: bool, reason: str = "", task_id: str = "") -> None:
        ended = Ended("by hand", run_id, failed, datetime.now(UTC), reason, task_id)
        tell_of_run(load_source("visits"), ended)

    def noted(self) -> list[dict[str, Any]]:
        """What the runs' records say was told, oldest first."""
        paths = self.project.folder.glob("data/runs/visits/*/alerts.json")
        return sorted((told for path in paths for told in json.loads(path.read_text())), key=lambda told: told["at"])

    def chat(self) -> str:
        """The last message in the Slack channel."""
        return "\n".join(block["text"]["text"] for block in self.posts.at(HOOK)[-1]["blocks"])


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Mails, Posts]]:
    with ExitStack() as stack:
        yield stack.enter_context(mail_server()), stack.enter_context(web_server())


@pytest.fixture
def ward(project: Project, servers: tuple[Mails, Posts], monkeypatch: pytest.MonkeyPatch) -> Ward:
    mails, posts = servers
    for inbox in (mails.received, mails.recipients, posts.received, posts.status):
        inbox.clear()
    monkeypatch.setenv("AIRFLOW_CONN_ALERT_MAIL", mails.connection)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/")
    for name, value in posts.connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", value)
    (project.folder / "expectations").mkdir()
    return Ward(project, mails, posts)


def fail_validation(ward: Ward, *more: str) -> None:
    (ward.project.folder / "expectations" / "visits.json").write_text(json.dumps(SUITE))
    ward.configure(*more)
    ward.insert((1, 5, "fine"), (2, -987654.25, "Mrs Secret"))


def test_a_failed_validation_reaches_every_channel(ward: Ward) -> None:
    fail_validation(ward, ALL)
    ward.run()
    assert ward.noted()[0]["channels"] == dict.fromkeys(["mail", "hook", "bot", "card"], "sent")
    ((subject, page),) = ward.mails.pages()
    assert subject == "[FAILED] visits: critical validation"
    assert ward.mails.recipients == [["night@example.org", "lead@example.org"]]
    assert ward.posts.at(API)[0]["channel"] == "#night"
    assert ward.posts.headers["Authorization"] == "Bearer xoxb-geheim"
    (card,) = ward.posts.at(CARD)
    assert card["attachments"][0]["content"]["body"][0]["inlines"][0]["text"] == subject
    told = [page, *(json.dumps(ward.posts.at(path)) for path in (HOOK, API, CARD))]
    for message in told:
        assert "expect_column_values_to_be_between on fee: 1 values (50 %) are not as expected" in message
        assert "What to do" in message
        assert "https://airflow.example.org/dags/by%20hand/runs/manual_cli__" in message
        assert "https://airflow.example.org/validation-reports/by%20hand/manual_cli__" in message
        for secret in ("987654", "Secret", "geheim", "Traceback"):
            assert secret not in message


def test_links_that_name_no_server_are_left_out(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__API__BASE_URL")
    ward.configure(ALL)
    ward.tell("some run", failed=True)
    ((_, page),) = ward.mails.pages()
    for message in (page, *(json.dumps(ward.posts.at(path)) for path in (HOOK, API, CARD))):
        assert "some run" in message
        assert "/dags/" not in message


def test_rows_set_aside_are_told(ward: Ward) -> None:
    fail_validation(ward, CHAT, "validation: {on_failure: quarantine, max_rejected: 90%}\n")
    assert ward.run()["status"] == "published"
    assert "1 rows break critical expectations and are not published" in ward.chat()
    assert ward.chat().count("Since: ") == 2
    assert ward.noted()[0]["conditions"] == [
        "quarantine",
        "critical_validation",
        "quality_failure",
        "warning_validation",
    ]


def test_warnings_go_where_they_are_routed(ward: Ward) -> None:
    fail_validation(ward, ALL, "  route: {warning_validation: [card], others: [log]}\n")
    suite = {**SUITE, "expectations": SUITE["expectations"][1:]}
    (ward.project.folder / "expectations" / "visits.json").write_text(json.dumps(suite))
    assert ward.run()["status"] == "published"
    assert len(ward.posts.at(CARD)) == 1
    assert (ward.mails.received, ward.posts.at(HOOK), ward.posts.at(API)) == ([], [], [])


def test_failures_in_a_row_and_recovery(ward: Ward) -> None:
    ward.configure(CHAT)
    ward.project.execute("ALTER TABLE visits RENAME TO elsewhere")
    ward.run()
    first = json.loads((ward.project.folder / "data/alerts/visits/open.json").read_text())["failure by hand"]["since"]
    assert "task plan failed with ConfigurationError" in ward.chat()
    assert "Correct what the message names" in ward.chat()
    ward.run()
    assert "2 runs in a row have failed" in ward.chat()
    ward.project.execute("ALTER TABLE elsewhere RENAME TO visits")
    ward.run()
    since = datetime.fromisoformat(first).strftime("%Y-%m-%d %H:%M")
    assert f"Recovered: what was reported before is right again*\nSince: {since} (UTC)" in ward.chat()
    ward.run()
    assert len(ward.posts.at(HOOK)) == 3


def test_a_range_that_is_read_again_is_no_recovery(ward: Ward) -> None:
    ward.configure(CHAT)
    ward.project.execute("ALTER TABLE visits RENAME TO elsewhere")
    ward.run()
    ward.project.execute("ALTER TABLE elsewhere RENAME TO visits")
    assert ward.run(mode="range", start="2024-01-01", end="2024-01-02")["status"] == "published"
    assert [post["text"] for post in ward.posts.at(HOOK)] == ["[FAILED] visits: run failed"]
    ward.run()
    assert ward.posts.at(HOOK)[-1]["text"] == "[OK] visits: recovered"


def test_an_error_that_is_not_ours_is_named_without_its_text(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("Mrs Secret has no fee")

    ward.configure(CHAT)
    monkeypatch.setattr("include.etl.phases.plan.decide", broken)
    with suppress(ValueError):
        ward.run()
    (path,) = ward.project.folder.glob("data/runs/visits/*/summary.json")
    ward.tell(json.loads(path.read_text())["run_id"], failed=True)
    assert "task plan failed with ValueError" in ward.chat()
    assert "Secret" not in ward.chat() + path.read_text()


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("task_failure", "task extract failed before it could say why, or was killed"),
        ("timed_out", "the run took longer than its DAG allows"),
        ("all_tasks_deadlocked", "the run's tasks waited for each other"),
    ],
)
def test_a_run_without_a_record_is_told(ward: Ward, reason: str, words: str) -> None:
    ward.configure(CHAT)
    ward.tell("killed", failed=True, reason=reason, task_id="extract")
    assert words in ward.chat()


def test_changed_columns_are_told_once(ward: Ward) -> None:
    ward.configure(CHAT)
    ward.insert((1, 5, "fine"))
    ward.run()
    ward.project.execute("ALTER TABLE visits ADD COLUMN ward TEXT")
    ward.run()
    assert "column 'ward' is new (string)" in ward.chat()
    assert "Since: " in ward.chat()
    ward.run()
    assert len(ward.posts.at(HOOK)) == 1


def test_what_lasts_is_told_once_until_it_ends(ward: Ward) -> None:
    """SQLite cannot say who writes: a degraded guarantee, unless the source says how long writers take."""
    ward.project.configure(VISITS + CHAT)
    ward.run()
    ward.run()
    assert [told["conditions"] for told in ward.noted()] == [["degraded_guarantee"]]
    ward.configure(CHAT)
    ward.run()
    ward.project.configure(VISITS + CHAT)
    ward.run()
    assert [told["conditions"] for told in ward.noted()] == [["degraded_guarantee"]] * 2


def test_what_lasts_and_reached_nobody_is_told_by_the_next_run(ward: Ward) -> None:
    """It is still said since when it lasts. What another channel took of the same run does not count."""
    route = "  route: {degraded_guarantee: [card], channel_down: [log], others: [chat]}\n"
    ward.project.configure(VISITS + CHAT.replace("chat: {", "card: {type: teams, conn_id: teams}, chat: {") + route)
    ward.posts.status[CARD] = 500
    ward.tell("one that was killed", failed=True)
    since = []
    for _ in range(2):
        ward.run()
        since.append(json.loads((ward.project.folder / "data/alerts/visits/open.json").read_text()))
    ward.posts.status.clear()
    ward.run()
    ward.run()
    _, *noted = ward.noted()
    assert [told["conditions"][-1] for told in noted] == ["degraded_guarantee"] * 3
    assert [told["channels"]["card"] == "sent" for told in noted] == [False, False, True]
    assert noted[0]["channels"]["chat"] == "sent"
    assert since[0]["degraded_guarantee"] == since[1]["degraded_guarantee"]


def history(ward: Ward, published: list[int], days: int = 7) -> None:
    """Runs of the same weekday, in earlier weeks, with so many rows; each like the last real one."""
    path = ward.project.folder / "data/history/visits.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    last = [line for line in lines if line["run_id"] == max(lines, key=lambda line: line["started_at"])["run_id"]]
    for number, rows in enumerate(published, 1):
        for line in last:
            past = line | {"run_id": f"past-{days}-{number}", "rows": rows}
            for key in ("started_at", "window_end"):
                if isinstance(line[key], str):  # a number where the cursor is one
                    past[key] = (datetime.fromisoformat(line[key]) - timedelta(days=days * number)).isoformat()
            lines.append(past)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.mark.parametrize(
    ("past", "now", "told"),
    [
        ([100] * 4, 80, None),
        ([100] * 4, 79, "79 rows were read, usually it is about 100 (-21%)"),
        ([90, 100, 100, 5000], 121, "121 rows were read, usually it is about 100 (+21%)"),
        ([0] * 4, 3, "3 rows were read, usually it is about 0 (there are usually none)"),
        ([0] * 4, 0, None),
        ([100] * 3, 1, None),
    ],
)
def test_unusual_numbers_of_rows(ward: Ward, past: list[int], now: int, told: str | None) -> None:
    """Compared with the median of four runs of the same weekday; those of other weekdays do not count."""
    ward.configure(CHAT)
    ward.insert(*((number, 1, "") for number in range(now)))
    run = ward.run()
    history(ward, past)
    history(ward, [7] * 4, days=1)
    ward.tell(run["run_id"], failed=False)
    assert [post["text"] for post in ward.posts.at(HOOK)] == (
        [] if told is None else ["[WARNING] visits: unusual number of rows"]
    )
    assert told is None or told in ward.chat()


@pytest.mark.parametrize(("past", "told"), [([100] * 3, 0), ([100] * 4, 1)])
def test_a_run_is_not_compared_with_itself(ward: Ward, past: list[int], told: int) -> None:
    """Where the cursor is a number, the moment of a run is its begin."""
    number = "cursor: {column: visit_id, type: number, lag: 1s}"
    ward.project.configure(VISITS.replace("cursor: {column: updated_at, lookback: 1h}", number) + CHAT)
    ward.insert((1, 1, ""))
    run = ward.run()
    history(ward, past)
    ward.posts.received.clear()
    ward.tell(run["run_id"], failed=False)
    assert len(ward.posts.at(HOOK)) == told


def test_a_damaged_history_hides_nothing(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    ward.project.configure(VISITS + CHAT)
    run = ward.run()
    history(ward, [100] * 4)
    path = ward.project.folder / "data/history/visits.jsonl"
    path.write_text(path.read_text().replace('"window_end"', '"window_ende"'))
    (ward.project.folder / "data/alerts/visits/open.json").unlink()
    ward.tell(run["run_id"], failed=False)
    assert [post["text"] for post in ward.posts.at(HOOK)] == ["[WARNING] visits: degraded guarantee"] * 2
    assert "could not be compared" in caplog.text


def test_channels_that_are_down(ward: Ward, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One refuses, one is silent, one has no connection: the last one tells all of it, quickly."""
    channels = """
alerts:
  channels:
    refusing: {type: teams, conn_id: teams}
    silent: {type: email, conn_id: silent_mail, to: [night@example.org]}
    missing: {type: slack, conn_id: nowhere}
    chat: {type: slack, conn_id: slack_hook}
  route: {failure: [refusing, silent, missing], others: [chat]}
"""
    ward.configure(channels)
    ward.posts.status[CARD] = 500
    monkeypatch.setattr(delivery, "ROUND_S", 5.0)
    with silent_server() as port:
        extra = {"from_email": "a@example.org", "disable_ssl": True, "timeout": 60}
        monkeypatch.setenv(
            "AIRFLOW_CONN_SILENT_MAIL",
            json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}),
        )
        ward.tell("some run", failed=True)
    (told,) = ward.noted()
    assert told["channels"] == {
        "refusing": "TransientError: the workflow answered HTTP 500 (connection 'teams')",
        "silent": "no answer within 5 s",
        "missing": "AirflowNotFoundException (connection 'nowhere')",
        "chat, in place of refusing, silent, missing": "sent",
    }
    assert "Run failed: a task failed" in ward.chat()
    assert "refusing: TransientError" in ward.chat()
    assert ward.chat().count("Since: ") == 2
    assert "an alert was not sent through channel silent" in caplog.text
    assert "geheim" not in caplog.text + json.dumps(told)


def test_no_channel_at_all_leaves_the_log(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    ward.configure()
    with caplog.at_level(logging.ERROR, "etl.alerts"):
        ward.tell("some run", failed=True)
    assert "[FAILED] visits: run failed" in caplog.text
    assert ward.noted()[0]["channels"] == {}


def test_a_damaged_memory_or_record_hides_nothing(ward: Ward) -> None:
    ward.configure(CHAT)
    folder = ward.project.folder / "data" / "alerts" / "visits"
    folder.mkdir(parents=True)
    (folder / "open.json").write_text("{")
    run = Run(load_source("visits"), "some run", Storage.from_environment(), "by hand")
    (run.records / "summary.json").write_text("{")
    ward.tell("some run", failed=True)
    assert ward.posts.at(HOOK)[0]["text"] == "[FAILED] visits: run failed"


def note(root: Path, times: int) -> None:
    for _ in range(times):
        with remembered(Storage(root), "visits") as known:
            known.note("failure", datetime.now(UTC))


def test_processes_do_not_lose_what_others_noted(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("spawn")
    processes = [fork.Process(target=note, args=(tmp_path, 15)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with remembered(Storage(tmp_path), "visits") as memory:
        assert memory.open["failure"]["times"] == 45


def test_who_does_not_get_the_memory_in_time_overwrites_nothing(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """The alert goes out, and what others noted meanwhile stays."""
    ward.configure(CHAT)
    ward.tell("first", failed=True)
    folder = ward.project.folder / "data" / "alerts" / "visits"
    noted = (folder / "open.json").read_text()
    monkeypatch.setattr(memories, "WAIT_S", 0.1)
    with locked(folder / ".lock", "alerts", "a test"):
        ward.tell("second", failed=True)
    assert len(ward.posts.at(HOOK)) == 2
    assert (folder / "open.json").read_text() == noted
