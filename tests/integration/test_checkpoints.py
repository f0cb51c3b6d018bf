"""Checkpoints that somebody, or something, has spoilt: refused with what to do; and the command that repairs them."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.etl import run as runner
from include.etl.config import Source
from include.etl.errors import CheckpointError
from include.etl.records import audit_check, checkpoint, checkpoint_edits
from include.etl.storage import Storage
from scripts import checkpoints
from tests.integration.conftest import VISITS, Memory, Project

KEY = "checkpoint__visits"
INSERT = "INSERT INTO visits VALUES (?, ?, ?, ?, ?)"
GOOD = {
    "source": "visits",
    "cursor": "updated_at",
    "bound": "2024-02-01T00:00:00Z",
    "run_id": "r",
    "updated_at": "2024-02-01T00:00:00Z",
}


class Deletable(Memory):
    def delete(self, key: str) -> None:
        del self.variables[key]


@pytest.fixture
def published(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    rows = [(n, "2024-01-01", "1.00", "fine", f"2024-01-01 08:00:{n:02d}") for n in range(5)]
    project.execute(INSERT, rows)
    project.run()
    monkeypatch.setattr(checkpoints, "CommandLineVariables", lambda: Deletable(project.variables))
    return project


def later(**parts: timedelta) -> str:
    return (datetime.now(UTC) + timedelta(days=3)).isoformat()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the whole value"),
        ("{", "the whole value"),
        ("[1]", "the whole value"),
        (json.dumps(GOOD | {"bound": "yesterday"}), "bound"),
        (json.dumps(GOOD | {"bound": "2024-02-01T00:00:00"}), "bound: Value error, a moment with a time zone"),
        (json.dumps(GOOD | {"bound": 1706745600}), "bound"),
        (json.dumps(GOOD | {"bound": "1706745600"}), "bound"),
        (json.dumps(GOOD | {"bound": None}), "bound"),
        (json.dumps(GOOD | {"bonud": "2024-02-01T00:00:00Z"}), "bonud: Extra inputs"),
        (json.dumps({"bound": "2024-02-01T00:00:00Z"}), "source"),
        (json.dumps(GOOD | {"source": "beds"}), "it is of source 'beds'"),
        (json.dumps(GOOD | {"cursor": "created_at"}), "cursor 'created_at'; the configuration says 'visits', 'updated"),
        (json.dumps(GOOD | {"bound": later()}), "lies after"),
        (None, "it is not there, but this source had one"),
    ],
)
def test_a_checkpoint_that_will_not_do_stops_the_run(published: Project, text: str | None, what: str) -> None:
    before = published.files()
    if text is None:
        del published.variables[KEY]
    else:
        published.variables[KEY] = text
    with pytest.raises(CheckpointError) as refused:
        published.run()
    assert what in str(refused.value)
    assert "python scripts/checkpoints.py restore visits" in str(refused.value)
    assert published.files() == before
    assert published.variables.get(KEY) == text
    assert checkpoints.main(["restore", "visits", "--yes"]) == 0
    published.run()


def test_a_changed_cursor_column_is_refused(published: Project) -> None:
    published.configure(VISITS.replace("column: updated_at", "column: visit_date"))
    with pytest.raises(CheckpointError, match="cursor 'updated_at'; the configuration says 'visits', 'visit_date'"):
        published.run()


def test_a_renamed_source_is_not_read_from_the_beginning_in_silence(published: Project) -> None:
    published.configure(VISITS.replace("source: visits", "source: consultations"), "consultations")
    runner.run_source("consultations", mode="full")  # both are configured: it is a source of its own
    shutil.rmtree(published.folder / "data" / "processed" / "consultations")
    shutil.rmtree(published.folder / "data" / "checkpoints" / "consultations")
    published.variables.pop("checkpoint__consultations")
    (published.folder / "sources" / "visits.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint, but 'visits', which include/sources has no longer"):
        runner.run_source("consultations")
    assert runner.run_source("consultations", mode="full").publication.rows.published == 5


@given(st.one_of(st.text(), st.binary().map(lambda b: b.decode("latin-1")), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(list(GOOD.values())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(list(GOOD)), inner),
).map(json.dumps)))  # fmt: skip
def test_any_text_is_understood_or_refused(text: str) -> None:
    source = Source.model_validate(
        {
            "source": "visits",
            "description": "Visits",
            "conn_id": "clinic",
            "table": "visits",
            "cursor": {"column": "updated_at"},
            "schedule": {"incremental": "@daily"},
            "output": {"formats": ["parquet"]},
        }
    )
    try:
        found = checkpoint.understood(source, text)
    except CheckpointError:
        return
    assert (found.source, found.cursor) == ("visits", "updated_at")
    assert json.loads(text).keys() == GOOD.keys()


def command(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    capsys.readouterr()
    status = checkpoints.main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_show_list_set_restore_reset(published: Project, capsys: pytest.CaptureFixture[str]) -> None:
    first = json.loads(published.variables[KEY])
    status, shown = command("show", "visits", capsys=capsys)
    assert (status, shown["checkpoint"]["bound"], len(shown["kept"])) == (0, first["bound"], 1)
    assert command("list", capsys=capsys) == (0, [{"source": "visits", "checkpoint": first}])
    status, state = command("set", "visits", "--to", "2024-01-01T00:00:00Z", "--reason", "late", "--yes", capsys=capsys)
    assert (status, state["checkpoint"]["bound"]) == (0, "2024-01-01T00:00:00Z")
    published.run(), published.run()
    assert [row[0] for row in published.rows()] == list(range(5))
    (oldest, *_) = checkpoint.history(Storage.from_environment(), "visits")
    status, state = command("restore", "visits", "--to", oldest.name, "--yes", capsys=capsys)
    assert (status, state["checkpoint"]["bound"]) == (0, first["bound"])
    assert command("reset", "visits", "--yes", capsys=capsys)[0] == 0
    assert KEY not in published.variables
    status, (state,) = command("list", capsys=capsys)
    assert (status, "it is not there, but this source had one" in state["problem"]) == (2, True)
    with pytest.raises(CheckpointError, match="it is not there"):
        published.run()
    published.run(mode="full")
    assert command("show", "visits", capsys=capsys)[0] == 0


@pytest.mark.parametrize("command", [["reset", "visits"], ["set", "visits", "--to", "2024-01-01T00:00:00Z"]])
def test_what_is_set_back_while_a_run_reads_is_not_undone_by_it(
    published: Project, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    def extract_later(*given: Any) -> Any:
        assert checkpoints.main([*command, "--yes"]) == 0
        return extract(*given)

    extract = runner.extract
    monkeypatch.setattr(runner, "extract", extract_later)
    published.execute(INSERT, [(9, "2024-01-02", "1.00", "late", "2024-01-02 08:00:00")])
    published.run()
    monkeypatch.setattr(runner, "extract", extract)
    runs = (published.folder / "data" / "runs" / "visits").glob("*/summary.json")
    newest = json.loads(max(runs, key=lambda path: path.stat().st_mtime_ns).read_text())
    assert "set after this run planned to read" in newest["phases"][-1]["checkpoint_left"]
    if command[0] == "reset":
        assert KEY not in published.variables
        published.run(mode="full")
    else:
        assert json.loads(published.variables[KEY])["bound"] == "2024-01-01T00:00:00Z"
        published.run()
    assert [row[0] for row in published.rows()] == [*range(5), 9]


def test_what_was_replaced_is_kept_and_audited(published: Project) -> None:
    published.variables[KEY] = "spoilt { by hand"
    assert checkpoints.main(["list"]) == checkpoints.main(["show", "visits"]) == 2
    assert checkpoints.main(["restore", "visits", "--reason", "spoilt", "--yes"]) == 0
    data = published.folder / "data"
    (replaced,) = (data / "checkpoints" / "visits").glob("*.replaced")
    assert replaced.read_text() == "spoilt { by hand"
    (log,) = (data / "audit").glob("*.jsonl")
    line = json.loads(log.read_text().splitlines()[-1])
    assert (line["action"], line["source"], line["reason"]) == ("checkpoint restore", "visits", "spoilt")
    assert line["before"] == "spoilt { by hand"
    assert {path.stat().st_mode & 0o777 for path in (replaced, log)} == {0o640}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["reset", "visits"], 2, "no terminal to ask on"),
        (["set", "visits", "--to", "soon", "--yes"], 2, "'soon'; allowed: a moment with a time zone"),
        (["set", "visits", "--to", "2024-01-01", "--yes"], 2, "allowed: a moment with a time zone"),
        (["set", "visits", "--to", "1706745600", "--yes"], 2, "allowed: a moment with a time zone"),
        (["set", "visits", "--to", later(), "--yes"], 2, "a moment that has passed"),
        (["restore", "visits", "--to", "../../x", "--yes"], 2, "'../../x'; allowed: 2"),
        (["show", "vistis"], 2, "did you mean 'visits'?"),
    ],
)
def test_wrong_requests_change_nothing(
    published: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    (log,) = (published.folder / "data" / "audit").glob("*.jsonl")
    before, told = dict(published.variables), log.read_text()
    assert checkpoints.main(arguments) == status
    assert message in capsys.readouterr().err
    assert published.variables == before
    assert log.read_text() == told


def test_an_edit_in_airflow_is_in_the_audit_once_and_takes_no_version_s_place(published: Project) -> None:
    storage, before = Storage.from_environment(), json.loads(published.variables[KEY])
    published.run()
    earlier = json.loads(published.variables[KEY])["bound"].replace("Z", "+00:00")
    published.variables[KEY] = json.dumps(before | {"bound": "2024-01-01T00:00:00Z"})
    for _ in range(2):
        published.run()
        edited = [line for line in audit_check.entries(storage) if line["action"] == "checkpoint edited"]
        assert [(line["before"], line["after"]) for line in edited] == [(earlier, "2024-01-01T00:00:00+00:00")]
        assert not [path for path in checkpoint.history(storage, "visits") if "2024-01-01T" in path.read_text()]


@pytest.mark.parametrize("content", ["{", "[1]", '{"bound": 7}'])
def test_a_kept_version_that_is_damaged_stops_no_run(
    published: Project, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    storage, now = Storage.from_environment(), json.loads(published.variables[KEY])
    checkpoint.history(storage, "visits")[-1].write_text(content)
    published.variables[KEY] = json.dumps(now | {"bound": "2024-01-01T00:00:00Z"})
    published.run()
    (line,) = [line for line in audit_check.entries(storage) if line["action"] == "checkpoint edited"]
    assert (line["before"], line["who"]) == ("cannot be read", checkpoint_edits.WHO)
    assert "cannot be read" in caplog.text


def test_clocks_of_workers_may_differ(published: Project) -> None:
    """A version that bears a later name than the checkpoint, of a worker whose clock was ahead, is no edit."""
    storage = Storage.from_environment()
    (kept,) = checkpoint.history(storage, "visits")
    kept.with_name("29990101T000000.000000Z.json").write_text(kept.read_text().replace("00Z", "01Z"))
    published.run()
    assert [line for line in audit_check.entries(storage) if line["action"] == "checkpoint edited"] == []


def test_a_run_of_a_range_does_not_ask_for_the_checkpoint(published: Project) -> None:
    published.variables[KEY] = "no checkpoint at all"
    published.run(mode="range", start="2024-01-01", end="2024-01-02")
    assert len(published.rows()) == 5
    assert published.variables[KEY] == "no checkpoint at all"
