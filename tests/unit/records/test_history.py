"""The history: one table for every reader, whole after a crash and with many writers."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import duckdb
import pandas as pd
import pytest

from include.etl.errors import StorageError
from include.etl.records import history
from include.etl.records.run import Run
from include.etl.storage import Storage


@dataclass
class Named:
    source: str = "visits"


def a_run(folder: Path, run_id: str = "one") -> Run:
    return Run(cast(Any, Named()), run_id, Storage(folder), "visits")


def record(phase: str, at: int = 0, error: str | None = None, **facts: Any) -> dict[str, Any]:
    return {
        "phase": phase,
        "started_at": f"2025-01-01T00:00:{at:02d}+00:00",
        "error": error,
        "seconds": 1.5,
        "cpu_seconds": 0.5,
        "peak_memory_mb": 100.0,
        "rows": 10,
        "bytes": 1000,
        "rows_per_second": 6.7,
        **facts,
    }


def tell(folder: Path, run_id: str, *records: dict[str, Any], part: str = "") -> None:
    for one in records:
        history.append(a_run(folder, run_id), one, part if one["phase"] == "extract" else "")


def summary(folder: Path, run_id: str = "one") -> history.RunSummary:
    (found,) = [run for run in history.runs(history.read(Storage(folder), "visits")) if run.run_id == run_id]
    return found


def test_lines_are_one_table_for_duckdb_and_pandas(tmp_path: Path) -> None:
    window = {"mode": "full", "start": None, "end": "2025-01-01T00:00:00Z"}
    tell(tmp_path, "one", record("plan", window=window, slices=1), record("extract", 1), part="-0003")
    facts = {"verdict": "quarantined", "expectations": 4, "failed_expectations": ["a", "b"], "quarantined": 3}
    tell(tmp_path, "one", record("validate", 2, **facts), record("transform", 3, removed={"a": 3, "b": 2}))
    path = tmp_path / "history" / "visits.jsonl"
    columns = ["phase", "slice", "mode", "verdict", "expectations_failed", "rejects", "removed"]
    expected = [
        ("plan", None, "full", None, None, None, None),
        ("extract", 3, None, None, None, None, None),
        ("validate", None, None, "quarantined", 2, 3, None),
        ("transform", None, None, None, None, None, 5),
    ]
    assert duckdb.sql(f"SELECT {', '.join(columns)} FROM '{path}'").fetchall() == expected
    frame = pd.read_json(path, lines=True)[columns]
    assert [tuple(None if pd.isna(v) else v for v in row) for row in frame.itertuples(index=False)] == expected
    assert len({frozenset(line) for line in history.read(Storage(tmp_path), "visits")}) == 1
    assert path.stat().st_mode & 0o777 == 0o640


def write_many(folder: Path, writer: int) -> None:
    for number in range(50):
        tell(folder, f"{writer}-{number}", record("plan", slices=1))


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(tmp_path, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    found = {line["run_id"] for line in history.read(Storage(tmp_path), "visits")}
    assert found == {f"{writer}-{number}" for writer in range(4) for number in range(50)}


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_half_a_line_of_a_killed_writer_is_not_read_and_goes(tmp_path: Path, kept: int) -> None:
    tell(tmp_path, "one", record("plan", slices=1))
    path = tmp_path / "history" / "visits.jsonl"
    whole = path.read_bytes()
    tell(tmp_path, "two", record("plan", slices=1))
    os.truncate(path, len(whole) + (kept if kept >= 0 else path.stat().st_size - len(whole) - 1))
    assert [line["run_id"] for line in history.read(Storage(tmp_path), "visits")] == ["one"]
    tell(tmp_path, "three", record("plan", slices=1))
    assert [line["run_id"] for line in history.read(Storage(tmp_path), "visits")] == ["one", "three"]
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 2


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    tell(tmp_path, "one", record("plan", slices=1))
    path = tmp_path / "history" / "visits.jsonl"
    path.write_text("{broken\n" + path.read_text())
    with pytest.raises(StorageError, match="line 1 is damaged"):
        history.read(Storage(tmp_path), "visits")


def test_a_history_that_cannot_be_written_stops_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "visits.jsonl").mkdir()
    tell(tmp_path, "one", record("plan"))
    assert "no line in its history" in caplog.text


def test_a_run_is_what_its_last_tries_say(tmp_path: Path) -> None:
    tell(tmp_path, "one", record("plan", 0, slices=2))
    tell(tmp_path, "one", record("extract", 1), part="-0000")
    tell(tmp_path, "one", record("extract", 1, error="TransientError"), part="-0001")
    assert summary(tmp_path).status == "failed"
    assert summary(tmp_path).error == "TransientError"
    tell(tmp_path, "one", record("extract", 7, peak_memory_mb=300.0), part="-0001")
    assert (summary(tmp_path).status, summary(tmp_path).rows) == ("running", 20)
    tell(tmp_path, "one", record("validate", 9, quarantined=2, verdict="quarantined"), record("load", 11, rows=18))
    found = summary(tmp_path)
    assert (found.status, found.error, found.rows, found.rejects) == ("published", None, 18, 2)
    assert (found.seconds, found.peak_memory_mb, found.cpu_seconds) == (12.5, 300.0, 2.5)
    assert found.verdict == "quarantined"


def test_a_cleared_run_begins_anew(tmp_path: Path) -> None:
    """It may have fewer slices than before: the failed one of then is not there any more."""
    tell(tmp_path, "one", record("plan", 0, slices=2))
    tell(tmp_path, "one", record("extract", 1, error="DataError"), part="-0001")
    tell(tmp_path, "one", record("plan", 20, slices=1), record("load", 22))
    assert (summary(tmp_path).status, summary(tmp_path).seconds) == ("published", 3.5)


def test_success_rate_counts_killed_runs_as_bad_and_not_the_one_at_work(tmp_path: Path) -> None:
    tell(tmp_path, "killed", record("plan", 0, slices=1))
    tell(tmp_path, "empty", record("plan", 1, slices=0))
    tell(tmp_path, "failed", record("plan", 2, error="ConfigurationError"))
    tell(tmp_path, "good", record("plan", 3, slices=1), record("load", 4))
    tell(tmp_path, "now", record("plan", 5, slices=1))
    found = history.runs(history.read(Storage(tmp_path), "visits"))
    assert {run.run_id: run.status for run in found} == {
        "killed": "interrupted",
        "empty": "nothing to read yet",
        "failed": "failed",
        "good": "published",
        "now": "running",
    }
    assert history.success_rate(found) == 0.5
    assert history.success_rate(found[-1:]) is None
