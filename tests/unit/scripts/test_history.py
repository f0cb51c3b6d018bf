"""scripts/history.py as it is typed."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from include.etl.records import history
from include.etl.records.run import Run
from include.etl.storage import Storage
from scripts import history as script
from scripts.local_airflow import ROOT
from tests.unit.records.test_history import Named, record


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six runs on six days: the fourth failed, the others published 100, 200, ... rows."""
    monkeypatch.setenv("ETL_DATA_URI", str(tmp_path))
    for day in range(1, 7):
        run = Run(cast(Any, Named()), f"run-{day}", Storage(tmp_path), "visits")
        at = {"started_at": f"2025-01-{day:02d}T02:00:00+00:00"}
        history.append(run, record("plan", slices=1, window={"mode": "incremental"}) | at, "")
        error = "ValidationFailed" if day == 4 else None
        history.append(run, record("validate", error=error, rows=day * 100, quarantined=0) | at, "")
        if not error:
            history.append(run, record("load", rows=day * 100, seconds=float(day)) | at, "")
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert script.main(arguments) == 0
    return capsys.readouterr().out


def test_all_sources_a_line_each(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = json.loads(printed(capsys, "--json"))["sources"]
    assert (source["source"], source["runs"], source["success_rate"]) == ("visits", 6, 0.8333)
    assert (source["median_rows"], source["median_seconds"]) == (300, 3.0)
    assert source["rows_trend"] == [100, 200, 300, 500, 600]
    table = printed(capsys)
    assert "83.3%" in table
    assert "▂▃▅▇█" in table


def test_one_source_its_phases_and_runs(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "visits", "--last", "3", "--json"))
    assert [(run["run_id"], run["status"], run["error"]) for run in found["runs"]] == [
        ("run-4", "failed", "ValidationFailed"),
        ("run-5", "published", None),
        ("run-6", "published", None),
    ]
    phases = {phase["phase"]: phase for phase in found["phases"]}
    assert (phases["validate"]["tries"], phases["validate"]["success_rate"]) == (3, 0.6667)
    assert (phases["load"]["median_rows"], phases["load"]["median_seconds"]) == (550, 5.5)
    table = printed(capsys, "visits")
    assert "ValidationFailed" in table


def test_csv_since_and_phase(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = list(csv.DictReader(io.StringIO(printed(capsys, "visits", "--since", "2025-01-05", "--csv"))))
    assert [(run["run_id"], run["rows"]) for run in runs] == [("run-5", "500"), ("run-6", "600")]
    tries = list(csv.DictReader(io.StringIO(printed(capsys, "visits", "--phase", "load", "--csv"))))
    assert [one["rows"] for one in tries] == ["100", "200", "300", "500", "600"]


def test_plot_has_a_bar_per_run_and_panel_and_bad_ones_in_red(
    told: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    printed(capsys, "visits", "--plot", str(tmp_path / "visits.svg"))
    root = ElementTree.parse(tmp_path / "visits.svg").getroot()
    bars = [bar for bar in root.iter("{http://www.w3.org/2000/svg}rect") if len(bar)]
    assert len(bars) == 12
    assert [number for number, bar in enumerate(bars) if bar.get("fill") == "#c0392b"] == [3, 9]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "source 'nothing' has no history; allowed: visits"),
        (["--phase", "load"], "name it"),
        (["visits", "--plot", "visits.png"], "ends in .svg"),
    ],
)
def test_wrong_requests(told: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert script.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_damaged_history_is_told(told: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (told / "history" / "visits.jsonl").write_text("{\n")
    assert script.main(["visits"]) == 1
    assert "line 1 is damaged" in capsys.readouterr().err


def test_as_it_is_typed_before_any_run(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ETL_DATA_URI": str(tmp_path)}
    command = [sys.executable, "scripts/history.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("nothing yet\n", "")
    helped = subprocess.run([*command, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    documented = (ROOT / "docs" / "monitoring.md").read_text()
    for option in ("--phase", "--last", "--since", "--json", "--csv", "--plot"):
        assert option in helped.stdout
        assert option in documented
