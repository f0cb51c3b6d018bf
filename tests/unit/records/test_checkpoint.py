"""Every version of a checkpoint is kept, also where a process was killed between moving it and keeping a copy."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.etl.errors import CheckpointError, StorageError
from include.etl.handover import Window
from include.etl.records import checkpoint
from include.etl.storage import Storage, read_json
from tests.unit.etl.test_plan import DAY, INTERVAL, NOW, Memory, source

pytestmark = pytest.mark.usefixtures("far_away")
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
        with pytest.raises(
            checkpoint.CheckpointError,
            match=r"'checkpoint__visits'.*: bound 2024-03-10T04:40:00.* lies after 2024-03-10T04:30:00",
        ):
            checkpoint.refuse_ahead(source(), current, NOW)
    else:
        checkpoint.refuse_ahead(source(), current, NOW)
    checkpoint.refuse_ahead(source(), None, NOW)


def test_what_is_put_is_what_is_read_and_kept(tmp_path: Path) -> None:
    storage, variables = Storage(tmp_path), Memory()
    before = datetime.now(UTC)
    assert checkpoint.read(source(), variables, storage) is None
    put = checkpoint.put(source(), NOW, "night", variables, storage)
    assert (put.source, put.cursor, put.bound, put.run_id) == ("visits", "updated_at", NOW, "night")
    assert before <= put.updated_at <= datetime.now(UTC)
    assert list(variables) == ["checkpoint__visits"]
    assert json.loads(variables["checkpoint__visits"]) == put.model_dump(mode="json")
    assert checkpoint.read(source(), variables, storage) == put
    (path,) = checkpoint.history(storage, "visits")
    assert path == checkpoint.version(tmp_path / "checkpoints" / "visits", "json", put.updated_at)
    (path.parent / ".x.json").write_text("{")  # a file manager's, or half a file
    assert checkpoint.history(storage, "visits") == [path]


def test_versions_are_named_after_the_moment_in_utc(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    name = checkpoint.version(tmp_path, "json").name
    assert f"{before:%Y%m%dT%H%M%S.%fZ}.json" <= name <= f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
    assert checkpoint.version(tmp_path, "replaced", NOW).name == "20240310T043000.000000Z.replaced"


def test_a_copy_that_does_not_hold_what_was_written_is_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint has moved: the next run reads on, and tries to keep it again."""
    storage, variables = Storage(tmp_path), Memory()
    monkeypatch.setattr(checkpoint, "read_json", lambda path: {})
    with pytest.raises(StorageError, match="did not hold the checkpoint that was written; it is moved all the same"):
        checkpoint.put(source(), NOW, "night", variables, storage)
    assert checkpoint.history(storage, "visits") == []
    assert checkpoint.parse(source(), variables) is not None


NUMBERED = {"cursor": {"column": "updated_at", "type": "number"}}


@pytest.mark.parametrize(
    ("of", "changes", "message"),
    [
        ({}, {"bound": 4711}, "bound: a moment such as 2024-03-09T18:00:00Z, as cursor.type says"),
        (NUMBERED, {"bound": "2024-03-09T18:00:00Z"}, "bound: a number such as 4711, as cursor.type says"),
        ({}, {"source": "beds"}, "it is of source 'beds', cursor 'updated_at'; the configuration says 'visits'"),
        ({}, {"cursor": "at"}, "it is of source 'visits', cursor 'at'; the configuration says 'visits', 'updated_at'"),
        (
            {"cursor": None, "schedule": {"full": "@daily"}},
            {},
            "it is of source 'visits', cursor 'updated_at'; the configuration says 'visits', None",
        ),
        ({}, {"bound": "2024-03-09"}, "bound: Value error, a moment with a time zone"),
        ({}, {"updated_at": "1706745600"}, "updated_at: Value error, a moment such as 2024-03-09T18:00:00Z"),
        (NUMBERED, {"bound": "4711"}, "bound: "),
        ({}, {"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_one_of_another_kind_is_refused(of: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    good = {"source": "visits", "cursor": "updated_at", "run_id": "run"}
    moments = {"bound": "2024-03-09T18:00:00Z", "updated_at": "2024-03-09T18:00:00Z"}
    with pytest.raises(CheckpointError) as refused:
        checkpoint.understood(source(**of), json.dumps(good | moments | changes))
    text = str(refused.value)
    assert text.startswith(f"checkpoint (Airflow Variable 'checkpoint__visits') cannot be used: {message}")
    assert "Restore it: python scripts/checkpoints.py restore visits; or begin again: python scripts/" in text


@pytest.mark.parametrize("text", ["", "{", "null", "[]"])
def test_what_is_no_checkpoint_at_all_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be used: the whole value: "):
        checkpoint.understood(source(), text)


def test_one_that_is_gone_is_not_taken_for_none(tmp_path: Path) -> None:
    storage, variables = Storage(tmp_path), Memory()
    checkpoint.put(source(), NOW, "night", variables, storage)
    variables.clear()
    with pytest.raises(CheckpointError, match=r"'checkpoint__visits'.* it is not there, but this source had one. Noth"):
        checkpoint.read(source(), variables, storage)
    assert checkpoint.read(source(source="beds"), variables, storage) is None


def test_one_that_cannot_be_removed_is_told() -> None:
    class Stubborn(Memory):
        def delete(self, key: str) -> None:
            assert key == "checkpoint__visits"

    good = checkpoint.Checkpoint(source="visits", cursor="updated_at", bound=NOW, run_id="run", updated_at=NOW)
    with pytest.raises(CheckpointError, match=r"stored was none; read back was bound 2024-03-10T04:30:00"):
        checkpoint.remove(source(), Stubborn(checkpoint__visits=good.model_dump_json()))


def test_a_number_is_one(tmp_path: Path) -> None:
    variables = Memory()
    put = checkpoint.put(source(**NUMBERED), 4711, "run", variables, Storage(tmp_path))
    assert checkpoint.parse(source(**NUMBERED), variables) == put
    checkpoint.refuse_ahead(source(**NUMBERED), put, NOW)


PUBLISHED = SimpleNamespace(key=["visit_id"], partition_by="day", cursor="seen")


@pytest.mark.parametrize(
    ("changes", "configured", "of", "found"),
    [
        ({}, False, {}, True),
        ({"key": ["id"]}, False, {}, False),
        ({"partition_by": None}, False, {}, False),
        ({"cursor": "updated_at"}, False, {}, False),
        ({}, True, {}, False),  # it is still there: another source
        (
            {"key": []},
            False,
            {"primary_key": [], "cursor": {"column": "updated_at"}},
            False,
        ),  # without a key, nothing tells that it is the same
    ],
)
def test_a_source_that_had_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], configured: bool, of: Any, found: bool
) -> None:
    """Found by the names under which key, cursor and partition were published last."""
    mine = {"output": {"formats": ["parquet"], "partition_by": "day"}, "transform": {"rename": {"updated_at": "seen"}}}
    storage = Storage(tmp_path)
    for name in ("a_known", "a_spoilt", "b_empty", "old"):
        storage.folder("processed", name)
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "a_known.yaml").touch()
    if configured:
        (tmp_path / "sources" / "old.yaml").touch()
    last = SimpleNamespace(**(vars(PUBLISHED) | changes))
    earlier = SimpleNamespace(key=["x"], partition_by=None, cursor=None)
    published = {"b_empty": [], "old": [earlier, earlier, last]}

    def current(asked: Storage, name: str) -> Any:
        assert asked is storage
        if name == "a_spoilt":
            raise StorageError("a manifest is damaged")
        return published[name]

    monkeypatch.setattr(checkpoint, "include_folder", lambda: tmp_path)
    monkeypatch.setattr(checkpoint.manifest, "current", current)
    if found:
        with pytest.raises(CheckpointError, match="'visits' has no checkpoint, but 'old', which include/sources has"):
            checkpoint.read(source(**mine, **of), Memory(), storage)
    else:
        assert checkpoint.read(source(**mine, **of), Memory(), storage) is None


def test_what_is_replaced_is_kept_word_by_word(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    checkpoint.keep_replaced(storage, "visits", None)
    checkpoint.keep_replaced(storage, "visits", "{ damaged \u00e9")
    (path,) = storage.folder("checkpoints", "visits").iterdir()
    assert (path.suffix, path.read_text(encoding="utf-8")) == (".replaced", "{ damaged \u00e9")
    assert path.stat().st_mode & 0o777 == checkpoint.FILE_MODE
    assert checkpoint.history(storage, "visits") == []


def test_a_task_reads_and_writes_airflows_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, tuple[str, str]] = {}

    class Variable:
        @staticmethod
        def get(key: str, default: str | None) -> str | None:
            return kept[key][0] if key in kept else default

        @staticmethod
        def set(key: str, value: str, description: str) -> None:
            kept[key] = (value, description)

        @staticmethod
        def delete(key: str) -> None:
            del kept[key]

    monkeypatch.setattr("airflow.sdk.Variable", Variable)
    variables = checkpoint.AirflowVariables()
    assert variables.get("a") is None
    variables.set("a", "1", "what it is")
    assert (variables.get("a"), kept) == ("1", {"a": ("1", "what it is")})
    variables.delete("a")
    assert kept == {}
