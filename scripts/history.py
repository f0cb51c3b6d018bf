"""Show what runs did and cost: success rate, rows, durations, memory, rejects, from data/history.

    python scripts/history.py                                  all sources: a line each
    python scripts/history.py polyclinic_visits                one source: its phases and its last runs
    python scripts/history.py polyclinic_visits --since 2025-11-01 --json
    python scripts/history.py polyclinic_visits --phase extract --csv
    python scripts/history.py polyclinic_visits --plot visits.svg

A run that is under way is shown as `running`, and counts as neither good nor bad. Medians and trends are those of runs
that published.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from include.etl.errors import ConfigurationError, StorageError
from include.etl.records import history
from include.etl.records.history import Line, RunSummary
from include.etl.records.run import PHASES
from include.etl.storage import Storage
from scripts import command_line as cli
from scripts.history_plot import plot, sparkline

LAST = 20
Row = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return cli.run(_work, _parser().parse_args(arguments))


def _work(asked: argparse.Namespace) -> int:
    try:
        _show(Storage.from_environment(), asked)
    except OSError as error:
        raise StorageError(f"file {error.filename}: {error.strerror}") from error
    return cli.DONE


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("source", nargs="?", help="name of a source; all of them without it")
    parser.add_argument("--phase", choices=PHASES, help="the tries of this phase instead of whole runs")
    period = parser.add_mutually_exclusive_group()
    period.add_argument("--last", type=_count, default=LAST, metavar="N", help=f"the last N runs ({LAST})")
    period.add_argument("--since", type=_moment, metavar="DATE", help="what began on this date (UTC) or later")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print as JSON")
    form.add_argument("--csv", action="store_true", help="print as CSV")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw rows and duration of a source's runs")
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number from 1")
    return int(text)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: an ISO date or time such as 2025-11-01") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _show(storage: Storage, asked: argparse.Namespace) -> None:
    known = history.sources(storage)
    if asked.source and asked.source not in known:
        raise ConfigurationError(f"source {asked.source!r} has no history; allowed: {', '.join(known) or 'none yet'}")
    if not asked.source and (asked.phase or asked.plot):
        raise ConfigurationError("--phase and --plot are about one source; name it")
    if asked.plot and asked.plot.suffix != ".svg":
        raise ConfigurationError(f"--plot: {asked.plot.name!r}; allowed: a file name that ends in .svg")
    if asked.source is None:
        _print({"sources": [_overview(_runs(storage, name, asked), name) for name in known]}, asked)
        return
    lines, runs = history.read(storage, asked.source), _runs(storage, asked.source, asked)
    chosen = _lines_of(lines, runs)
    if asked.phase:
        _print({asked.phase: [line for line in chosen if line["phase"] == asked.phase]}, asked)
    else:
        phases = [_phase(name, chosen) for name in PHASES if any(line["phase"] == name for line in chosen)]
        _print(
            {"sources": [_overview(runs, asked.source)], "phases": phases, "runs": [asdict(run) for run in runs]}, asked
        )
    if asked.plot:
        asked.plot.write_text(plot(asked.source, runs), encoding="utf-8")


def _runs(storage: Storage, source: str, asked: argparse.Namespace) -> list[RunSummary]:
    """Cut by run, never within one: half of a run would look like one that did not end."""
    found = history.runs(history.read(storage, source))
    if asked.since:
        return [run for run in found if datetime.fromisoformat(run.started_at) >= asked.since]
    return found[-asked.last :]


def _lines_of(lines: Iterable[Line], runs: Iterable[RunSummary]) -> list[Line]:
    names = {(run.dag_id, run.run_id) for run in runs}
    return [line for line in lines if (line["dag_id"], line["run_id"]) in names]


def _overview(runs: Sequence[RunSummary], source: str) -> dict[str, Any]:
    published = [run for run in runs if run.status == "published"]
    rate = history.success_rate(runs)
    return {
        "source": source,
        "runs": len(runs),
        "success_rate": None if rate is None else round(rate, 4),
        "median_seconds": _median(run.seconds for run in published),
        "median_rows": _median(run.rows for run in published),
        "rejects": sum(run.rejects for run in runs),
        "last_status": runs[-1].status if runs else None,
        "last_at": runs[-1].started_at if runs else None,
        "last_published_at": published[-1].started_at if published else None,
        "rows_trend": [run.rows for run in published],
        "seconds_trend": [run.seconds for run in published],
    }


def _phase(name: str, lines: Iterable[Line]) -> dict[str, Any]:
    mine = [line for line in lines if line["phase"] == name]
    done = [line for line in mine if line["outcome"] == "done"]
    return {
        "phase": name,
        "tries": len(mine),
        "success_rate": round(len(done) / len(mine), 4),
        "median_seconds": _median(line["seconds"] for line in done),
        "median_rows": _median(line["rows"] for line in done),
        "median_bytes": _median(line["bytes"] for line in done),
        "median_rows_per_second": _median(line["rows_per_second"] for line in done),
        "median_cpu_seconds": _median(line["cpu_seconds"] for line in done),
        "most_memory_mb": max(line["peak_memory_mb"] for line in mine),
        "rejects": sum(line["rejects"] or 0 for line in mine),
    }


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return round(median(found), 3) if found else None


def _print(tables: Mapping[str, Sequence[Row]], asked: argparse.Namespace) -> None:
    """JSON has all tables, CSV the last one: whole runs, or what was asked for."""
    if asked.csv:
        _print_csv(list(tables.values())[-1], asked.output)
    else:
        cli.say(asked, tables, ["\n\n".join(_table(rows) for rows in tables.values())])


def _print_csv(rows: Sequence[Row], output: TextIO) -> None:
    writer = csv.DictWriter(output, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _flat(value) for key, value in row.items()} for row in rows)


def _flat(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value


HIDDEN = ("source", "run_key", "manifest", "ended_at", "window_start", "window_end", "seconds_trend")
"""What a terminal has no room for; JSON and CSV have all."""


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return "nothing yet"
    names = [name for name in rows[0] if name not in HIDDEN or (name == "source" and "last_at" in rows[0])]
    cells = [[name.removesuffix("_trend") for name in names], *([_cell(n, row[n]) for n in names] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "success_rate":
        return f"{value:.1%}"
    if isinstance(value, list):
        return sparkline(value[-LAST:])
    return f"{value:,.10g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.exit(main())
