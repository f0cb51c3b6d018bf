"""`scripts/checkpoints.py` on the Variables of a real Airflow, as it is typed, also with a person at the terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from scripts.local_airflow import ROOT
from tests.e2e.conftest import Stage

pytestmark = pytest.mark.e2e
SOURCE, KEY, EARLIER = "wards", "checkpoint__wards", "2024-01-01T00:00:00Z"


def command(stage: Stage, *arguments: str, answer: str = "", **environment: str) -> tuple[int, str, str]:
    """Exit status and what was said; an answer is typed at a terminal, and without one there is no terminal."""
    keyboard, terminal = pty.openpty() if answer else (0, subprocess.DEVNULL)
    if answer:
        os.write(keyboard, f"{answer}\n".encode())
    done = subprocess.run(
        [sys.executable, "scripts/checkpoints.py", *arguments],
        cwd=ROOT,
        env=stage.airflow.environment | environment,
        stdin=terminal,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer:
        os.close(keyboard)
        os.close(terminal)
    return done.returncode, done.stdout, done.stderr


def bound(stage: Stage) -> Any:
    text = stage.airflow.api.variable(KEY)
    return text and json.loads(text)["bound"]


def test_set_is_asked_restore_and_reset_do_as_they_are_told(stage: Stage) -> None:
    stage.execute["sqlite"]("CREATE TABLE wards (ward_id INTEGER, updated_at TIMESTAMP)")
    stage.execute["sqlite"]("INSERT INTO wards VALUES (1, '2024-01-02 08:00:00')")
    assert stage.trigger(SOURCE)["state"] == "success"
    first = bound(stage)
    status, said, _ = command(stage, "list")
    assert any(line.startswith(SOURCE) and first in line for line in said.splitlines()), said
    assert status == 2, "another source's file cannot be read"
    assert "broken.yaml: conn_id: missing" in said
    moving = ("set", SOURCE, "--to", EARLIER, "--reason", "late corrections")
    status, _, told = command(stage, *moving)
    assert (status, bound(stage)) == (2, first), told
    assert "no terminal to ask on" in told
    status, _, told = command(stage, *moving, answer="n")
    assert (status, bound(stage)) == (1, first), told
    assert "nothing was changed" in told
    status, said, told = command(stage, *moving, answer="y")
    assert (status, bound(stage)) == (0, EARLIER), told
    assert "becomes: 2024-01-01" in told
    shadow = {f"AIRFLOW_VAR_{KEY.upper()}": str(stage.airflow.api.variable(KEY))}
    for asked in (("show", SOURCE), (*moving, "--yes"), ("restore", SOURCE, "--yes"), ("reset", SOURCE, "--yes")):
        status, said, told = command(stage, *asked, **shadow)
        assert status == 2, said
        assert "environment variable AIRFLOW_VAR_CHECKPOINT__WARDS answers in its place" in said + told
    assert bound(stage) == EARLIER
    assert command(stage, "restore", SOURCE, "--to", oldest(stage), "--yes")[0] == 0
    assert bound(stage) == first
    assert command(stage, "reset", SOURCE, "--yes")[0] == 0
    assert bound(stage) is None
    (audit,) = (stage.data / "audit").glob("*.jsonl")
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    actions = [line["action"] for line in lines if line["source"] == SOURCE and line["action"].startswith("checkpoint")]
    assert actions == ["checkpoint set", "checkpoint restore", "checkpoint reset"]


def oldest(stage: Stage) -> str:
    """The first version that was kept, as `show` lists it."""
    status, said, told = command(stage, "show", SOURCE, "--json")
    assert status == 0, told
    return str(json.loads(said)["kept"][0]["file"])
