"""What plan makes of the catalogue's answers, of partitions that were attached, and when it looks at the checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.etl.config import Source
from include.etl.engines.base import Origins, Writers
from include.etl.handover import Bound, Plan, Window
from include.etl.phases import plan as phase
from include.etl.phases.request import Parameters
from include.etl.publication import standing
from include.etl.records.manifest import path_of, published_folder
from include.etl.records.run import Run
from include.etl.storage import Storage, write_json
from tests.unit.etl.test_plan import DAY, NOW, Memory, manual, scheduled, source
from tests.unit.etl.test_spans import publication


def looked_at(monkeypatch: pytest.MonkeyPatch, origins: Origins) -> Writers:
    """What plan makes of a server that shows its writers, and says this of where the rows come from."""
    asked: list[str] = []

    @contextmanager
    def session() -> Iterator[Any]:
        def found(query: Any) -> Origins:
            asked.append(query.sql)
            return origins

        yield SimpleNamespace(writers=lambda: Writers(NOW), origins=found)

    monkeypatch.setattr(phase, "open_source", lambda *_: SimpleNamespace(dialect="postgres", session=session))
    found = phase.look(source())
    assert len(asked) == 1
    assert "updated_at" not in asked[0], "the whole of what is read, not a window of it"
    return found


def test_writers_of_another_server_are_not_seen_here(monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked_at(monkeypatch, Origins(["ward.visits"], elsewhere="rows of another server"))
    assert (found.now, found.unseen, found.curable) == (NOW, "rows of another server", False)
    assert found.origins.relations == ["ward.visits"]


def test_writers_of_this_server_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked_at(monkeypatch, Origins(["ward.visits"]))
    assert (found.unseen, found.curable, found.origins.relations) == ("", Writers(NOW).curable, ["ward.visits"])


def bound(*partitions: str, attached: tuple[str, ...] = ()) -> Bound:
    return Bound(relations=["ward.visits"], partitions=list(partitions), attached=list(attached), caveats=["a join"])


def judged(tmp_path: Path, earlier: list[Bound], now: Bound, read_from: Any = NOW - DAY) -> Bound:
    """The bound after plan has compared it with earlier publications, the newest one last."""
    run = Run(source(), "run", Storage(tmp_path))
    for number, one in enumerate(earlier):
        made = publication(Window(mode="range", start=NOW - (9 - number) * DAY, end=NOW - (8 - number) * DAY))
        made = made.model_copy(update={"bound": one, "published_at": NOW + timedelta(hours=number)})
        write_json(published_folder(run.storage, "visits") / path_of(made.window), made.model_dump(mode="json"))
    window = Window(mode="incremental" if read_from else "full", start=read_from, end=NOW, read_from=read_from)
    return phase.with_attached(run, Plan(run_id="run", window=window, bound=now)).bound


def test_a_partition_attached_with_rows_of_before_is_told_and_leaves_a_doubt(tmp_path: Path) -> None:
    now = bound("p1", "p2", "p3", attached=("p3", "p2"))
    found = judged(tmp_path, [bound("p1", "p2", "p3"), bound("p1")], now)
    join, attached = found.caveats
    assert join == "a join"
    assert attached.startswith("p2, p3: attached since the last run")
    assert f"before {NOW - DAY}" in attached
    assert (found.degraded, found.grade) == (True, "not proven")
    assert found.model_copy(update={"caveats": now.caveats, "degraded": now.degraded, "grade": now.grade}) == now


@pytest.mark.parametrize(
    ("earlier", "attached", "read_from"),
    [
        ([], ("p2",), NOW - DAY),
        ([bound("p1")], (), NOW - DAY),
        ([bound("p1"), bound("p1", "p2")], ("p2",), NOW - DAY),
        ([bound("p1")], ("p2",), None),
        ([Bound()], ("p2",), NOW - DAY),
    ],
    ids=["first run", "created as partition", "known to the newest", "everything is read", "not recorded then"],
)
def test_a_partition_that_is_not_new_or_read_anyway_leaves_none(
    tmp_path: Path, earlier: list[Bound], attached: tuple[str, ...], read_from: Any
) -> None:
    now = bound("p1", "p2", attached=attached)
    assert judged(tmp_path, earlier, now, read_from) == now


WITHOUT_CURSOR = source(cursor=None, primary_key=[], schedule={"full": "0 2 * * *"})
RANGE = Parameters(mode="range", start="2024-01-01", end="2024-01-02")


@pytest.mark.parametrize(
    ("of", "asked", "used"),
    [
        (source(), Parameters(), True),
        (source(), Parameters(mode="full"), True),
        (source(), RANGE, False),
        (source(), Parameters(drop="run"), False),
        (source(), Parameters(release="run"), False),
        (WITHOUT_CURSOR, Parameters(), False),
    ],
)
def test_a_checkpoint_counts_only_for_runs_that_move_it(of: Source, asked: Parameters, used: bool) -> None:
    assert phase._uses_checkpoint(of, asked, manual()) is used


@pytest.mark.parametrize("earlier", ["visits", "other"])
def test_a_cleared_run_gets_its_window_again_and_no_other_dag_s(tmp_path: Path, earlier: str) -> None:
    run = Run(source(), "r", Storage(tmp_path))
    old = Window(mode="range", start=NOW - 9 * DAY, end=NOW - 8 * DAY)
    made = publication(old).model_copy(update={"dag_id": earlier.replace("visits", run.dag_id)})
    write_json(published_folder(run.storage, "visits") / path_of(old), made.model_dump(mode="json"))
    assert standing.look(run.storage, "visits").manifests
    found = phase.decide(run, Parameters(), scheduled(), Memory())
    assert (found.window == old) is (earlier == "visits")
