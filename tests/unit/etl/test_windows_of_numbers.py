"""Where a cursor is a number: the window that follows from what was asked and what is decided, and what is kept."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from include.etl import numbers, set_back
from include.etl.errors import CheckpointError, ConfigurationError
from include.etl.handover import Bound, Mode
from include.etl.numbers import Observation
from include.etl.phases.request import Parameters
from include.etl.records import checkpoint
from include.etl.records.run import Run
from include.etl.storage import Storage
from tests.unit.etl.test_plan import NOW, Memory, source

pytestmark = pytest.mark.usefixtures("far_away")
SECOND = timedelta(seconds=1)


def numbered(**more: Any) -> Any:
    return source(cursor={"column": "updated_at", "type": "number", **more})


@pytest.mark.parametrize(
    ("start", "end", "safe", "reached", "something"),
    [
        (None, None, 10, 10, True),
        (None, None, 0, 0, True),
        (None, None, None, 0, False),  # nothing is decided yet
        (5, None, None, 5, False),
        (5, None, 4, 5, False),  # never back behind where it begins
        (5, None, 5, 5, False),
        (5, None, 6, 6, True),
        (5, 8, 6, 6, True),
        (5, 8, 10, 8, True),
        (5, 8, 5, 5, False),
        (5, 8, None, 8, True),  # a range reads what there is, and moves no checkpoint
        (None, 8, 6, 6, True),
        (-7, None, -3, -3, True),
    ],
)
def test_window(start: int | None, end: int | None, safe: int | None, reached: int, something: bool) -> None:
    mode: Mode = "incremental" if end is None else "range"
    found, there = numbers.window(mode, start, end, Bound(safe=safe))
    assert (found.mode, found.start, found.end, found.read_from, there) == (mode, start, reached, start, something)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("number", "4711", 4711),
        ("number", " -5 ", -5),
        ("number", "9" * 38, 10**38 - 1),
        ("number", "9" * 39, None),
        ("number", "٤", None),  # a digit that is not ASCII
        ("number", "5.0", None),
        ("number", "", None),
        ("rowversion", "0", 0),
        ("rowversion", str(2**63 - 1), 2**63 - 1),
        ("rowversion", str(2**63), None),
        ("rowversion", "-1", None),
    ],
)
@pytest.mark.parametrize("name", ["start", "end"])
def test_ends_of_a_range(tmp_path: Path, kind: str, text: str, expected: int | None, name: str) -> None:
    run, given = Run(numbered(type=kind), "run", Storage(tmp_path)), {"start": None, "end": None, name: text}
    if expected is None:
        with pytest.raises(
            ConfigurationError, match=f"'visits': parameter {name}: .*; allowed: a (whole number|row ver)"
        ):
            numbers.asked(run, "range", Parameters(**given), Memory())
        return
    assert numbers.asked(run, "range", Parameters(**given), Memory()) == (
        (expected, None) if name == "start" else (None, expected)
    )


def test_a_range_has_numbers_in_it(tmp_path: Path) -> None:
    run = Run(numbered(), "run", Storage(tmp_path))
    assert numbers.asked(run, "range", Parameters(start="4", end="5"), Memory()) == (4, 5)
    for end in ("4", "3"):
        with pytest.raises(ConfigurationError, match=f"start: '4'; allowed: a number below the end, {end}"):
            numbers.asked(run, "range", Parameters(start="4", end=end), Memory())


def test_what_begins_where_the_checkpoint_is(tmp_path: Path) -> None:
    run, variables = Run(numbered(), "run", Storage(tmp_path)), Memory()
    assert numbers.asked(run, "incremental", Parameters(), variables) == (None, None)
    checkpoint.put(numbered(), 4711, "earlier", variables, run.storage)
    assert numbers.asked(run, "incremental", Parameters(), variables) == (4711, None)
    assert numbers.asked(run, "incremental", Parameters(from_beginning=True), variables) == (None, None)
    assert numbers.asked(run, "full", Parameters(), variables) == (None, None)
    variables["checkpoint__visits"] = "{"
    for mode in ("incremental", "full"):
        with pytest.raises(CheckpointError, match="cannot be used"):
            numbers.asked(run, mode, Parameters(), variables)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="mode: 'backfill'; allowed: full, range or incremental"):
        numbers.asked(run, "backfill", Parameters(), Memory())


def seen(end: int, seconds: int = 0, safe: int | None = None) -> Bound:
    return Bound(asked=end, observed_at=NOW + seconds * SECOND, safe=safe)


def test_observations_are_kept_from_the_last_that_is_decided_on(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for number in (10, 20, 30):
        numbers.remember(storage, numbered(), seen(number, number))
    assert [one.end for one in numbers.kept(storage, numbered())] == [10, 20, 30]
    numbers.remember(storage, numbered(), seen(40, 40, safe=20))
    assert [one.end for one in numbers.kept(storage, numbered())] == [20, 30, 40]
    numbers.remember(storage, numbered(), seen(40, 40, safe=20))
    assert numbers.kept(storage, numbered())[-1] == Observation(end=40, at=NOW + 40 * SECOND)
    assert [one.end for one in numbers.kept(storage, numbered())] == [20, 30, 40], "once"
    numbers.remember(storage, numbered(), Bound(asked=50))
    numbers.remember(storage, numbered(), Bound(asked=NOW, observed_at=NOW))
    numbers.remember(storage, numbered(), Bound(observed_at=NOW))
    assert [one.end for one in numbers.kept(storage, numbered())] == [20, 30, 40], "these are no observations"


def test_of_many_observations_the_oldest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are decided first."""
    monkeypatch.setattr(numbers, "MOST", 3)
    for number in range(5):
        numbers.remember(Storage(tmp_path), numbered(), seen(number, number))
    assert [one.end for one in numbers.kept(Storage(tmp_path), numbered())] == [0, 1, 2]


@pytest.mark.parametrize("changes", [{"conn_id": "other"}, {"table": "beds"}, {"source": "beds"}])
def test_observations_are_of_this_source(tmp_path: Path, changes: dict[str, str]) -> None:
    storage = Storage(tmp_path)
    numbers.remember(storage, numbered(), seen(10))
    asked = source(cursor={"column": "updated_at", "type": "number"}, **changes)
    assert numbers.kept(storage, asked) == []
    assert [one.end for one in numbers.kept(storage, numbered(lag="1m"))] == [10]


@pytest.mark.parametrize(
    ("reached", "told"),
    [
        (12, None),
        (11, None),
        (10, "the largest number is 9, and everything below 11 counts as read"),
        (None, "there is no row any more, and everything below 11 counts as read"),
    ],
)
def test_numbers_below_the_checkpoint_are_told_with_both(tmp_path: Path, reached: int | None, told: str | None) -> None:
    run, variables = Run(numbered(), "run", Storage(tmp_path)), Memory()
    bound = Bound(grade="writers seen", asked=reached, safe=reached, caveats=["a sequence cycles"])
    assert set_back.doubted(run, 11, bound, variables) == bound, "nothing counts as read yet"
    checkpoint.put(numbered(), 11, "run", variables, run.storage)
    found = set_back.doubted(run, 11, bound, variables)
    assert found.below == (told and 11)
    if told is None:
        assert found == bound
        return
    first, second = found.caveats
    assert (first, found.grade, found.degraded, found.asked) == ("a sequence cycles", "not proven", True, reached)
    assert second.startswith(told)
