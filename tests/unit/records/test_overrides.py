"""A checkpoint that something else answers for: an environment variable, a secrets backend, another machine's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from include.etl.errors import CheckpointError
from include.etl.handover import Window
from include.etl.phases.plan import decide
from include.etl.phases.request import Parameters
from include.etl.records import checkpoint, overrides
from include.etl.records.run import Run
from include.etl.run import CommandLineVariables
from include.etl.storage import Storage
from tests.unit.etl.test_plan import DAY, NOW, Memory, manual, source

KEY, SECRET = "checkpoint__visits", "s3cr3t-of-somebody"
NAME = "AIRFLOW_VAR_CHECKPOINT__VISITS"


class Vault:
    """A secrets backend that holds one Variable, or cannot be reached."""

    def __init__(self, text: str | None = None, *, down: bool = False) -> None:
        self.text, self.down = text, down

    def get_variable(self, key: str) -> str | None:
        if self.down:
            raise ConnectionError(SECRET)
        return self.text if key == KEY else None


class Shadowed(Memory):
    """Stores what it is told, and answers with something else."""

    def __init__(self, answer: str | None, by: str = "") -> None:
        super().__init__()
        self.answer, self.by = answer, by

    def get(self, key: str, default: Any = None) -> Any:
        return self.answer

    def overridden_by(self, key: str) -> str:
        return self.by


@pytest.fixture(autouse=True)
def no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrides, "secrets_backend", lambda: None)


def text_of(bound: Any = NOW - DAY) -> str:
    found = checkpoint.Checkpoint(source="visits", cursor="updated_at", bound=bound, run_id=SECRET, updated_at=NOW)
    return json.dumps(found.model_dump(mode="json"))


@pytest.mark.parametrize("value", ["", "{}", text_of()])
def test_an_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert overrides.override(KEY) == ""
    monkeypatch.setenv(NAME, value)
    assert overrides.override(KEY) == f"environment variable {NAME}"


def test_a_secrets_backend_is_named_if_it_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for vault, told in ((Vault(""), "secrets backend Vault"), (Vault(), ""), (Vault(down=True), "")):
        monkeypatch.setattr(overrides, "secrets_backend", lambda vault=vault: vault)
        assert overrides.override(KEY) == told
        assert overrides.override("checkpoint__beds") == ""
    assert "Vault cannot be asked" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("mode", ["incremental", "full"])
@pytest.mark.parametrize("answer", [text_of(), SECRET])
def test_a_run_stops_before_it_reads(tmp_path: Path, mode: str, answer: str) -> None:
    run, shadowed = Run(source(), "run", Storage(tmp_path)), Shadowed(answer, f"environment variable {NAME}")
    with pytest.raises(CheckpointError) as refused:
        decide(run, Parameters(mode=mode), manual(), shadowed)
    assert f"environment variable {NAME} answers in its place" in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "told"),
    [(text_of(NOW - DAY), "read back was bound 2024-03-09T04:30:00+00:00"), (SECRET, "read back was no checkpoint")],
)
@pytest.mark.parametrize("by", ["", "secrets backend Vault"])
def test_what_is_written_is_read_back(tmp_path: Path, answer: str, told: str, by: str) -> None:
    """Though nothing is seen from here: the API server has an environment of its own."""
    storage, shadowed = Storage(tmp_path), Shadowed(answer, by)
    for move in (
        lambda: checkpoint.put(source(), NOW, "run", shadowed, storage),
        lambda: checkpoint.remove(source(), shadowed),
    ):
        with pytest.raises(CheckpointError) as refused:
            move()
        assert told in str(refused.value)
        assert (by or f"the API server's environment variable {NAME}, or a secrets backend") in str(refused.value)
        assert SECRET not in str(refused.value)
    assert checkpoint.history(storage, "visits") == [], "it is not kept as one that holds"


def test_a_value_that_is_not_kept_is_no_override(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"stored was bound 2024-03-10.*read back was none: Airflow's database"):
        checkpoint.put(source(), NOW, "run", Shadowed(None), Storage(tmp_path))


def test_airflow_reads_the_environment_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Airflow's own Variable: what is stored does not come back."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    monkeypatch.setenv(NAME, text_of())
    variables = CommandLineVariables()
    monkeypatch.setattr(variables, "set", lambda *_: None)
    assert variables.get(KEY) == text_of()
    with pytest.raises(CheckpointError, match=f"environment variable {NAME} answers"):
        checkpoint.parse(source(), variables)
    with pytest.raises(CheckpointError, match=f"environment variable {NAME} answers"):
        checkpoint.put(source(), NOW, "run", variables, Storage(tmp_path))
    window = Window(mode="incremental", start=NOW - DAY, end=NOW, read_from=NOW - DAY)
    with pytest.raises(CheckpointError, match=f"environment variable {NAME} answers"):
        checkpoint.advance(source(), window, "run", variables, Storage(tmp_path))
