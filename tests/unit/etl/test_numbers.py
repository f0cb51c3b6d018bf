"""Numbers as a cursor: what is decided, and what is refused."""

from __future__ import annotations

import itertools
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.etl import cursor, numbers
from include.etl.config_sections import Cursor
from include.etl.engines.base import Writer, Writers
from include.etl.errors import CheckpointError, ConfigurationError
from include.etl.handover import Mode, Window
from include.etl.horizon import MARGIN
from include.etl.numbers import Observation
from include.etl.phases.request import Parameters
from include.etl.publication.files import cursor_text
from include.etl.records import checkpoint
from include.etl.records.run import Run
from include.etl.storage import Storage
from tests.unit.etl.test_plan import NOW, Memory, source

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def numbered(**more: Any) -> Any:
    return source(cursor={"column": "updated_at", "type": "number", **more})


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "PATIENCE", timedelta(0))


def settled(tmp_path: Path, observed: int | None, writers: Writers, **more: Any) -> Any:
    one = numbered(**more)
    bound = numbers.settle(one, Storage(tmp_path), observed, lambda: writers)
    numbers.remember(Storage(tmp_path), one, bound)
    return bound


@pytest.mark.usefixtures("patience")
def test_number_waits_for_those_in_flight_when_it_was_seen(tmp_path: Path) -> None:
    old = Writer(NOW - SECOND, "pid=7")
    first = settled(tmp_path, 10, Writers(NOW, [old]))
    assert (first.safe, first.writer) == (None, "pid=7")
    still = settled(tmp_path, 20, Writers(NOW + HOUR, [old]))
    assert (still.safe, still.writer_too_old) == (None, True)
    other = settled(tmp_path, 30, Writers(NOW + 2 * HOUR, [Writer(NOW + 2 * HOUR - SECOND, "pid=8")]))
    assert other.safe == 20, "what was seen before the one in flight began is decided"
    assert settled(tmp_path, 30, Writers(NOW + 3 * HOUR)).safe == 30


@pytest.mark.usefixtures("patience")
def test_without_sight_an_observation_older_than_the_lag_serves(tmp_path: Path) -> None:
    lag = Writers(NOW).usual_lag
    assert settled(tmp_path, 10, Writers(NOW, unseen="no grant")).safe is None
    assert settled(tmp_path, 20, Writers(NOW + lag - SECOND, unseen="no grant")).safe is None
    found = settled(tmp_path, 30, Writers(NOW + lag, unseen="no grant"))
    assert (found.safe, found.grade, found.degraded) == (10, "lag", True)


@pytest.mark.usefixtures("patience")
def test_lag_for_clocks_does_not_shorten_the_wait_without_sight(tmp_path: Path) -> None:
    assert settled(tmp_path, 10, Writers(NOW, unseen="no grant"), lag="1m").lag_s == 600
    found = settled(tmp_path, 20, Writers(NOW + 2 * SECOND * 60, unseen="no grant"), lag="1m")
    assert (found.safe, found.degraded) == (None, True)


@pytest.mark.usefixtures("patience")
def test_transaction_that_began_within_the_margin_counts(tmp_path: Path) -> None:
    assert settled(tmp_path, 10, Writers(NOW, [Writer(NOW + MARGIN, "pid=7")])).safe is None
    assert settled(tmp_path, 10, Writers(NOW, [Writer(NOW + MARGIN + SECOND, "pid=7")])).safe == 10


def test_observations_of_another_column_do_not_count(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    settled(tmp_path, 10, Writers(NOW))
    assert numbers.kept(storage, numbered()) == [Observation(end=10, at=NOW)]
    assert numbers.kept(storage, numbered(column="id")) == []


def test_plan_polls_until_the_transaction_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "PAUSE_S", 0)
    looks = itertools.chain([Writers(NOW, [Writer(NOW, "pid=7")])] * 3, itertools.repeat(Writers(NOW)))
    assert numbers.settle(numbered(), Storage(tmp_path), 10, lambda: next(looks)).safe == 10


@pytest.mark.parametrize(
    ("mode", "start", "end"),
    [("backfill", None, None), ("range", "2024-01-01", None), ("range", "5", "5"), ("range", "1.5", None)],
)
def test_senseless_parameters_are_refused(tmp_path: Path, mode: Any, start: str | None, end: str | None) -> None:
    with pytest.raises(ConfigurationError, match="allowed: "):
        numbers.asked(Run(numbered(), "r", Storage(tmp_path)), mode, Parameters(start=start, end=end), Memory())


def test_checkpoint_is_a_number_where_the_cursor_is(tmp_path: Path) -> None:
    memory, storage = Memory(), Storage(tmp_path)
    checkpoint.put(numbered(), 4711, "r", memory, storage)
    found = checkpoint.parse(numbered(), memory)
    assert found is not None
    assert found.bound == 4711
    with pytest.raises(CheckpointError, match="a moment"):
        checkpoint.parse(source(cursor={"column": "updated_at"}), memory)
    checkpoint.advance(numbered(), Window(mode="incremental", end=9), "r", memory, storage)
    assert checkpoint.parse(numbered(), memory) == found


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_checkpoint_beyond_every_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode) -> None:
    run, memory, found = Run(numbered(), "r", Storage(tmp_path)), Memory(), {"end": 10}
    monkeypatch.setattr(numbers, "observe", lambda _: found["end"])
    checkpoint.put(numbered(), 11, "r", memory, run.storage)
    with pytest.raises(CheckpointError, match="bound 11 lies after 10"):
        numbers.decide(run, mode, Parameters(), memory, lambda: Writers(NOW))
    found["end"] = 11
    _, bound, _ = numbers.decide(run, mode, Parameters(), memory, lambda: Writers(NOW))
    numbers.remember(run.storage, run.source, bound)
    for end in (9, None, 9):
        found["end"] = end
        _, bound, _ = numbers.decide(run, mode, Parameters(), memory, lambda: Writers(NOW))
        numbers.remember(run.storage, run.source, bound)


def test_window_of_numbers_travels_as_json() -> None:
    window = Window(mode="incremental", start=0, end=10, read_from=0)
    assert Window.model_validate_json(window.model_dump_json()) == window
    assert (window.name, window.label) == ("0_10", "0 up to 10")


@given(st.lists(st.integers(-(10**38) + 1, 10**38 - 1), min_size=2))
def test_text_of_numbers_sorts_like_them(values: list[int]) -> None:
    assert sorted(values) == sorted(values, key=lambda value: str(cursor_text(value)))
    assert [cursor_text(value) for value in values] == [cursor_text(Decimal(value)) for value in values]


@pytest.mark.parametrize("kind", [pa.float64(), pa.decimal128(10, 2), pa.string(), pa.timestamp("us"), pa.binary(8)])
def test_column_of_no_whole_numbers_is_refused(kind: pa.DataType) -> None:
    with pytest.raises(ConfigurationError, match="whole numbers"):
        cursor.bound(5, kind, numbered())


@pytest.mark.parametrize(
    ("type_", "more"),
    [("number", {"lookback": "1h"}), ("rowversion", {"lookback": "1h"}), ("rowversion", {"lag": "1m"})],
)
def test_what_numbers_do_not_need_is_refused(type_: str, more: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(more))):
        Cursor.model_validate({"column": "id", "type": type_, **more})
