import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from include.etl.handover import Bound, Window
from include.etl.records.manifest import Manifest, PublishedFile, Rows
from scripts.demo_screen import Outcome, Screen, headline, print_outcomes

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
INCREMENTAL = Window(mode="incremental", start=START, end=END, read_from=START)


def outcome(folder: Path, window: Window, published: int, removed: dict[str, int] | None = None) -> Outcome:
    removed = removed or {}
    publication = Manifest(
        source="visits",
        window=window,
        bound=Bound(),
        dag_id="visits",
        run_id="manual",
        query_hash="",
        config_hash="",
        arrow_schema="",
        columns=[],
        rows=Rows(extracted=published + sum(removed.values()), removed=removed, published=published),
        files=[PublishedFile(path="a-0.parquet", format="parquet", rows=published, bytes=1, sha256="")],
        validation={
            "verdict": "warnings",
            "warnings": ["fee is odd"],
            "report": "reports/visits/manual/validation.html",
        },
        versions={},
        published_at=END,
    )
    path = folder / "data" / "processed" / "visits" / "_manifests" / f"{window.name}.json"
    return Outcome("visits", 12.4, publication, path)


@pytest.mark.parametrize(
    ("window", "published", "said"),
    [
        (Window(mode="incremental", end=END), 1234, "1,234 rows, everything there was"),
        (INCREMENTAL, 1234, "1,234 new or changed rows since the last run"),
        (INCREMENTAL, 0, "nothing new since the last run"),
        (Window(mode="full", end=END), 7, "7 rows, read in full"),
    ],
)
def test_the_headline_says_what_is_new(tmp_path: Path, window: Window, published: int, said: str) -> None:
    assert headline(outcome(tmp_path, window, published)) == said


@pytest.mark.filterwarnings("error")
def test_the_table_fits_a_small_terminal(tmp_path: Path) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    good = outcome(tmp_path, INCREMENTAL, 1_234_567, {"older version or duplicate": 200})
    bad = Outcome("polyclinic_patients", 3, problems=["plan: ConfigurationError: no such thing", "log: /x.log"])
    print_outcomes(console, [good, bad], tmp_path)
    console.file.close()
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    row = next(line for line in lines if "1,234,767" in line)
    assert row.split() == ["visits", "2026-01-01", "00:00", "1,234,767", "200", "1,234,567", "1", "12", "s"]
    for line in (
        "visits: 1,234,567 new or changed rows since the last run",
        "    rejected: 200 older version or duplicate",
        "    warning:  fee is odd",
        "    files:    data/processed/visits",
        "    report:   data/reports/visits/manual/validation.html",
        "polyclinic_patients: failed",
        "    plan: ConfigurationError: no such thing",
    ):
        assert line in lines


def test_a_run_that_found_nothing_to_read_has_not_failed() -> None:
    assert headline(Outcome("visits", 1)) == "nothing to read yet"
    assert headline(Outcome("visits", 1, problems=["plan: gone"])) == "failed"


def test_progress_without_a_terminal_is_a_line_for_each_change(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file, Screen(Console(file=file, width=80)) as screen:
        plan = {"task_id": "plan", "state": "running"}
        extract = [{"task_id": "extract", "state": state} for state in ("success", "running")]
        screen.show("visits", [plan])
        screen.show("visits", [plan])
        screen.show("visits", [plan | {"state": "success"}, *extract])
        screen.show("visits", [plan | {"state": "success"}, {"task_id": "extract", "state": "failed"}])
    said = [line.split(" s ")[1] for line in (tmp_path / "out").read_text().splitlines() if " s " in line]
    assert said == ["visits: plan", "visits: extract", "visits: extract failed"]
