"""A publication that was stopped in the middle is finished soon; one that is at work is left alone."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

import pytest

from include.etl.lock import locked
from include.etl.publication import journal
from include.etl.publication.unfinished import finish_all
from include.etl.records import audit_check
from include.etl.storage import Storage
from tests.integration.conftest import VISITS, Project


class Stopped(BaseException):
    """Stands for a process that dies here."""


def stop_in_the_middle(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new files are there, and the old ones are too."""

    remove = journal._remove

    def die(path: Path) -> None:
        if "staging" not in path.parts:
            raise Stopped
        remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "_remove", die)
        with pytest.raises(Stopped):
            project.run(mode="full")
    assert set(Counter(project.rows()).values()) == {2}


@pytest.fixture
def stopped(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.configure(VISITS)
    rows = [(n, "2024-01-01", "1.00", "fine", "2024-01-01 08:00:00") for n in range(5)]
    project.execute("INSERT INTO visits VALUES (?, ?, ?, ?, ?)", rows)
    project.run(mode="range", start="2024-01-01", end="2024-01-02")
    stop_in_the_middle(project, monkeypatch)
    return project


def test_a_plain_reader_sees_each_row_once_again(stopped: Project) -> None:
    storage = Storage(stopped.folder / "data")
    freshness = runpy.run_path(str(Path(__file__).parents[2] / "dags" / "freshness.py"))
    assert freshness["finish_publications"].function() == ["visits"]
    assert set(Counter(stopped.rows()).values()) == {1}
    assert len(stopped.rows()) == 5
    assert not (storage.root / "staging" / "visits").exists()
    assert finish_all(storage) == []
    stopped.run(mode="full")
    assert len(stopped.rows()) == 5


def test_a_publication_at_work_is_left_alone_and_not_waited_for(stopped: Project) -> None:
    storage = Storage(stopped.folder / "data")
    with locked(stopped.published / ".lock", "published data", "a publication"):
        assert finish_all(storage) == []
    assert set(Counter(stopped.rows()).values()) == {2}
    assert finish_all(storage) == ["visits"]
    *_, told = audit_check.entries(storage)
    assert (told["action"], told["source"]) == ("publication finished", "visits")


def test_one_that_cannot_be_finished_hides_no_other(stopped: Project) -> None:
    storage = Storage(stopped.folder / "data")
    (storage.folder("staging", "broken") / journal.NAME).write_text("[")
    with pytest.raises(ExceptionGroup, match="cannot be finished") as raised:
        finish_all(storage)
    assert "staging/broken/journal.json" in str(raised.value.exceptions[0])
    assert set(Counter(stopped.rows()).values()) == {1}
