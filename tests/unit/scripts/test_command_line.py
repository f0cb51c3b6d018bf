"""What all commands promise, of each: help, exit status, JSON, questions. See docs/command-line.md."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.etl.errors import ConfigurationError, DataError, StorageError, TransientError
from scripts import command_line as cli
from scripts import write_help
from scripts.local_airflow import ROOT

NOT_FOR_OPERATORS = {"demo", "lifeline", "mutants", "write_help", "write_alert_examples"}
"""`make demo`, which draws on the screen, what it starts, `make mutants`, and what writes the page of the others."""
COMMANDS = [name for name in write_help.commands() if name != "write_help"]
CHANGES = {"recover": ["run", "--reason", "test"]}
"""Words with which a command replaces or deletes something; quarantine needs rows, and checkpoints an Airflow whose
Variables nothing overrides: both are asked by their own tests."""
SOURCE = """
source: visits
description: Visits
conn_id: clinic
table: visits
primary_key: [visit_id]
cursor: {column: updated_at}
schedule: {incremental: "0 2 * * *"}
output: {formats: [parquet]}
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "visits.yaml").write_text(SOURCE)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ETL", "PYTHONPATH"))}
    own = {"AIRFLOW_HOME": str(tmp_path / "home"), "ETL_INCLUDE": str(tmp_path), "ETL_DATA_URI": str(tmp_path / "data")}
    return kept | own | {"AIRFLOW_VAR_CHECKPOINT__VISITS": "{}"}


def typed(environment: dict[str, str], name: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"scripts/{name}.py", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def test_every_script_that_is_run_by_hand_keeps_the_contract() -> None:
    runnable = {path.stem for path in (ROOT / "scripts").glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert runnable - NOT_FOR_OPERATORS == set(COMMANDS)


def test_the_page_shows_the_help_of_every_command() -> None:
    """Spaces and line breaks differ between versions of Python."""
    shown = write_help.PAGE.read_text()
    assert " ".join(shown.split()) == " ".join(write_help.page_text().split()), "run: python scripts/write_help.py"
    for name in COMMANDS:
        assert "Exit status: 0 done" in write_help.help_text(name)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_json_and_wrong_words(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--json" in write_help._all_help(name)
    module: Any = importlib.import_module(f"scripts.{name}")
    with pytest.raises(SystemExit) as refused:
        module.main(["--no-such-option"])
    assert refused.value.code == cli.WRONG
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", CHANGES)
def test_it_asks_before_it_changes_and_refuses_without_a_terminal(
    name: str, environment: dict[str, str], tmp_path: Path
) -> None:
    assert "--yes" in write_help._all_help(name)
    done = typed(environment, name, *CHANGES[name], "--json")
    assert done.returncode == cli.WRONG, done.stderr
    told = "--yes: not given, and there is no terminal to ask on; nothing was changed"
    assert told in done.stderr
    assert json.loads(done.stdout) == {"error": told, "exit_status": cli.WRONG}
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("data/audit/*"))


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (ConfigurationError("x"), cli.WRONG),
        (TransientError("x"), cli.TRY_AGAIN),
        (DataError("x"), cli.FAILED),
        (StorageError("x"), cli.FAILED),
        (cli.Declined("x"), cli.FAILED),
        (KeyboardInterrupt(), cli.INTERRUPTED),
    ],
)
def test_errors_become_an_exit_status_and_one_line(
    raised: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: object) -> int:
        sys.stdout.write("a log line\n")
        raise raised

    assert cli.run(work, cli.parser("x").parse_args([])) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == ["a log line", "interrupted" if status == 130 else "x"]


def test_an_unexpected_error_shows_its_kind_and_place_and_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    def work(_: object) -> int:
        raise ValueError("postgresql://airflow:geheim@db/airflow: Ann Tan")

    parser = cli.parser("x")
    cli.add_json(parser)
    assert cli.run(work, parser.parse_args(["--json"])) == cli.FAILED
    printed = capsys.readouterr()
    assert "geheim" not in printed.out + printed.err
    assert "Ann Tan" not in printed.out + printed.err
    assert "Traceback" not in printed.err
    found = json.loads(printed.out)
    assert found == {"error": printed.err.strip(), "exit_status": cli.FAILED}
    assert re.search(r"unexpected ValueError \(test_command_line\.py, line \d+, in work\)", found["error"])


@pytest.mark.parametrize(("answer", "agreed"), [("y", True), ("YES", True), ("", False), ("n", False), ("yess", False)])
def test_the_question(
    answer: str, agreed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = cli.parser("x")
    cli.add_yes(parser)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: f"{answer}\n", raising=False)
    said_no = False
    try:
        cli.confirm(parser.parse_args([]), "All goes.")
    except cli.Declined:
        said_no = True
    assert said_no is not agreed
    assert capsys.readouterr().err.startswith("All goes.\nGo on? [y/N]")
    cli.confirm(parser.parse_args(["--yes"]), "All goes.")
    assert capsys.readouterr().err == ""


def test_worst_status() -> None:
    assert [cli.worst(one) for one in ([0, 3], [3, 1], [1, 2, 3], [0, 0])] == [3, 1, 2, 0]


def test_json_is_alone_on_standard_output(environment: dict[str, str]) -> None:
    done = typed(environment, "recover", "backups", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert re.search(r"\w", done.stderr) is None, done.stderr
