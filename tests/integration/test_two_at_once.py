"""Two runs of a source at the same moment: every row once, and a clear word to the one that has to wait."""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from include.etl import lock
from include.etl.errors import TransientError
from include.etl.phases import load as load_phase
from include.etl.records.run import Run, measured
from include.etl.sources import load_source
from include.etl.storage import Storage
from tests.integration import neighbour
from tests.integration.conftest import Project

INSERT = "INSERT INTO visits VALUES (?, ?, ?, ?, ?)"
CONTEXT = multiprocessing.get_context("spawn")


@contextmanager
def held_elsewhere(project: Project, holder: str = "run r1 of visits") -> Iterator[Any]:
    mine, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=neighbour.hold, args=(project.folder / "data", holder, theirs))
    process.start()
    theirs.close()
    try:
        assert mine.poll(60)
        yield mine.close, process
    finally:
        mine.close()
        process.join(10)


def rows(project: Project, count: int) -> None:
    project.execute(INSERT, [(n, "2024-01-01", "1.00", "x", f"2024-01-01 08:00:{n:02d}") for n in range(count)])


def test_waiting_has_an_end_and_names_the_holder(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows(project, 5)
    with held_elsewhere(project) as (_, process):
        monkeypatch.setattr(lock, "WAIT_S", 0.3)
        with pytest.raises(TransientError) as refused:
            project.run()
        assert f"in use by run r1 of visits (process {process.pid} on" in str(refused.value)
        assert "since 20" in str(refused.value)
        assert "is in use by run r1 of visits" in caplog.text
        assert not [name for name in project.files() if not name.startswith(".")]
    monkeypatch.setattr(lock, "WAIT_S", 30.0)
    assert project.run().publication.rows.published == 5


def test_who_waits_goes_on_when_the_other_has_ended_or_died(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    rows(project, 5)
    project.run()
    with held_elsewhere(project) as (release, process), caplog.at_level(logging.WARNING, "etl.lock"):
        threading.Timer(0.5, release).start()
        project.run()
        assert "waiting, 0 of at most 1800 s" in caplog.text
    with held_elsewhere(project) as (_, process):
        process.kill()
        process.join()
        project.run()
    assert [row[0] for row in project.rows()] == list(range(5))


def test_two_runs_of_one_moment_publish_every_row_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduled and a manual one; both have read before either of them publishes."""
    rows(project, 20)
    both, errors = threading.Barrier(2), list[BaseException]()

    def load_together(*arguments: Any) -> Any:
        both.wait(30)
        return load_phase.load(*arguments)

    monkeypatch.setattr("include.etl.run.load", load_together)

    def run() -> None:
        try:
            project.run()
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [row[0] for row in project.rows()] == list(range(20))


def test_an_earlier_try_that_still_works_is_not_joined(project: Project) -> None:
    """Airflow gives a task up that has lost touch, and tries again; the first one may go on writing the same files."""
    run = Run(load_source("visits"), "run", Storage.from_environment())
    with measured(run, "extract", "-0000"):
        message = "extract-0000 of run run of source 'visits' is in use by an earlier try"
        with pytest.raises(TransientError, match=message), measured(run, "extract", "-0000"):
            pass
        with measured(run, "extract", "-0001"):
            pass


def test_a_later_run_says_of_a_killed_one_that_it_was(project: Project) -> None:
    rows(project, 3)
    run = Run(load_source("visits"), "killed", Storage.from_environment(), "visits")
    with measured(run, "plan"):
        pass
    child = CONTEXT.Process(target=neighbour.die_in_extract, args=(project.folder,))
    child.start()
    child.join(60)
    assert child.exitcode == -9
    summary = run.records / "summary.json"
    assert '"running"' in summary.read_text()
    project.run()
    assert '"interrupted"' in summary.read_text()
    assert "extract-0000" in summary.read_text()
    assert str(datetime.now(UTC).year) in summary.read_text()
