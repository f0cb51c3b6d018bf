"""Every version of a checkpoint is kept, also where a process was killed between moving it and keeping a copy."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from include.etl.handover import Window
from include.etl.records import checkpoint
from include.etl.storage import Storage, read_json
from tests.unit.etl.test_plan import DAY, INTERVAL, NOW, Memory, source

WINDOW = Window(mode="incremental", start=INTERVAL[0], end=INTERVAL[1])


def kept(storage: Storage) -> list[dict[str, object]]:
    return [read_json(path) for path in checkpoint.history(storage, "visits")]


@pytest.mark.parametrize("further", [timedelta(0), timedelta(hours=3)])
def test_a_copy_that_was_not_kept_is_kept_by_the_next_try(tmp_path: Path, further: timedelta) -> None:
    storage, variables = Storage(tmp_path), Memory()
    moved = checkpoint.put(source(), WINDOW.end + further, "killed", variables, storage)  # type: ignore[operator]
    checkpoint.history(storage, "visits")[0].unlink()
    (storage.folder("checkpoints", "visits") / ".20240309T180000.000000Z.json.1.tmp").write_text("{")
    again = checkpoint.advance(source(), WINDOW, "again", variables, storage)
    assert again == moved
    assert kept(storage) == [moved.model_dump(mode="json")]
    assert [path.name for path in storage.folder("checkpoints", "visits").iterdir() if path.suffix == ".tmp"] == []
    checkpoint.advance(source(), WINDOW, "again", variables, storage)
    assert len(kept(storage)) == 1, "once"


def test_it_moves_from_where_the_window_begins_and_never_back(tmp_path: Path) -> None:
    storage, variables = Storage(tmp_path), Memory()
    checkpoint.put(source(), INTERVAL[0], "first", variables, storage)
    moved = checkpoint.advance(source(), WINDOW, "second", variables, storage)
    assert moved is not None
    assert (moved.bound, moved.run_id) == (WINDOW.end, "second")
    assert checkpoint.parse(source(), variables) == moved
    assert [one["run_id"] for one in kept(storage)] == ["first", "second"]
    earlier = WINDOW.model_copy(update={"start": INTERVAL[0] - DAY, "end": INTERVAL[0]})
    assert checkpoint.advance(source(), earlier, "third", variables, storage) == moved
    assert checkpoint.parse(source(), variables) == moved


@pytest.mark.parametrize("set_back", [INTERVAL[0] - timedelta(microseconds=1), INTERVAL[0] - DAY, None])
def test_one_that_was_set_back_while_the_run_read_stays(tmp_path: Path, set_back: object) -> None:
    storage, variables = Storage(tmp_path), Memory()
    current = checkpoint.put(source(), set_back, "person", variables, storage) if set_back else None
    assert checkpoint.advance(source(), WINDOW, "run", variables, storage) == current
    assert checkpoint.parse(source(), variables) == current
    everything = WINDOW.model_copy(update={"mode": "full", "start": None})
    moved = checkpoint.advance(source(), everything, "full", variables, storage)
    assert moved is not None
    assert moved.bound == WINDOW.end


@pytest.mark.parametrize(
    ("beyond", "refused"),
    [(timedelta(0), False), (checkpoint.CLOCKS, False), (checkpoint.CLOCKS + timedelta(microseconds=1), True)],
)
def test_clocks_may_differ_by_so_much(tmp_path: Path, beyond: timedelta, refused: bool) -> None:
    current = checkpoint.put(source(), NOW + beyond, "run", Memory(), Storage(tmp_path))
    if refused:
        with pytest.raises(checkpoint.CheckpointError, match="lies after 2024-03-10T04:30:00"):
            checkpoint.refuse_ahead(source(), current, NOW)
    else:
        checkpoint.refuse_ahead(source(), current, NOW)
    checkpoint.refuse_ahead(source(), None, NOW)
