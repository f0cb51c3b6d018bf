"""RESULTS.md and its plot, from the results file: python -m bench.report <results> <folder>."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench import plot
from bench.records import Record, Records
from bench.summary import Number, Results, good, inside, peak, total, wall
from bench.targets import targets

TITLES = {"postgres": "PostgreSQL", "mysql": "MariaDB"}
NOTES = Path(__file__).with_name("notes.md")
FEW = 5
INTRODUCTION = """# Results

Made by `python bench/run.py report` from `results.jsonl`; do not edit. `make bench` repeats everything,
[docs/benchmarks.md](../docs/benchmarks.md) tells how, and how to add a contender.

Each run is a fresh process. Contenders take turns in rounds. A number is the median, with
the smallest and largest in brackets; fewer than five runs are preliminary. A run that something else on the machine
disturbed is repeated up to twice. CPU is user and system time of the whole process tree; server CPU is
that of the database meanwhile. Memory is the peak of the process tree. MB are MiB.
"""


def main(results: Path, folder: Path) -> None:
    """Write both."""
    found = Results(Records(results))
    plot.readers(found, folder / "readers.svg")
    (folder / "RESULTS.md").write_text("\n".join(_report(found)) + "\n")


def _report(results: Results) -> Iterator[str]:
    yield INTRODUCTION
    yield from _targets(results)
    for engine, title in TITLES.items():
        yield from _readers(results, engine, title)
    yield "![Readers](readers.svg)\n"
    yield from _phases(results, "flow", "The whole flow, lineitem from PostgreSQL", ("ours", "pandas", "raw drain"))
    yield from _phases(results, "scale", "More rows: our phases from PostgreSQL", ("1x", "3x", "10x"))
    yield from _wide(results)
    yield from _parse(results)
    yield from _machine(results)


def _targets(results: Results) -> Iterator[str]:
    yield "## To reach\n"
    rows = [(one.what, one.limit, one.reached, one.verdict) for one in targets(results)]
    yield from _table(("what", "at most", "reached", "target reached"), rows)
    if NOTES.exists():
        yield NOTES.read_text()


def _readers(results: Results, engine: str, title: str) -> Iterator[str]:
    yield f"## {title}: lineitem to Parquet\n"
    names = results.names("readers", engine)
    order = sorted(names, key=lambda name: results.median(wall, "readers", engine, name) or float("inf"))
    heads = (
        "",
        "runs",
        "seconds",
        "without start and imports",
        "CPU s",
        "server CPU s",
        "memory MB",
        "rows",
        "MB written",
    )
    yield from _table((*heads, "exact"), [_reader(results, engine, name) for name in order])


def _reader(results: Results, engine: str, name: str) -> Sequence[str]:
    runs = results.of("readers", engine, name)
    done = good(runs)
    if not done:
        return (name, "0", *["-"] * 7, f"cannot be had here: {runs[-1]['error']}")
    numbers: list[Number] = [wall, inside, total("cpu"), total("server_cpu"), peak()]
    written = done[-1].get("bytes")
    size = (f"{done[-1]['rows']:,}", f"{written / (1 << 20):,.0f}") if written else ("-", "-")
    return (name, _count(done), *(_spread(done, number) for number in numbers), *size, _exact(results, engine, name))


def _exact(results: Results, engine: str, name: str) -> str:
    if name == "raw drain":
        return "nothing is kept"
    changes, refusals = results.changes(engine, name), results.refusals(engine, name)
    said = f"**no**: {'; '.join(changes)}" if changes else "**yes**"
    return said + (f" (refuses: {', '.join(refusals)})" if refusals else "")


def _phases(results: Results, experiment: str, title: str, names: Sequence[str]) -> Iterator[str]:
    yield f"## {title}\n"
    rows = []
    for name in names:
        done = good(results.of(experiment, "postgres", name))
        if not done:
            continue
        count = done[-1].get("rows")
        for step in done[-1]["steps"]:
            one = [{**run, **run["steps"][step], "steps": {step: run["steps"][step]}} for run in done]
            rows.append((name, step, *_cells(one, count)))
        rows.append((f"**{name}**", "**all**", *_cells(done, count)))
    yield from _table(("", "step", "runs", "seconds", "without start of Airflow", "CPU s", "memory MB", "rows/s"), rows)


def _cells(runs: Sequence[Record], rows: int | None) -> Sequence[str]:
    numbers: list[Number] = [wall, inside, total("cpu"), peak()]
    slowest = max(wall(run) for run in runs)
    speed = f"{rows / slowest:,.0f}" if rows else "-"
    return (_count(runs), *(_spread(runs, number) for number in numbers), speed)


def _wide(results: Results) -> Iterator[str]:
    yield "## Rows of 1 MiB: 2,000 of them through our extract phase\n"
    rows = []
    for engine, title in TITLES.items():
        if done := good(results.of("wide", engine)):
            rows.append((title, _count(done), _spread(done, wall), _spread(done, peak())))
    yield from _table(("", "runs", "seconds", "memory MB"), rows)


def _parse(results: Results) -> Iterator[str]:
    yield "## Parsing: Airflow's DAG processor on dags/sources.py, two DAGs per source\n"
    rows = []
    for name in results.names("parse", "airflow"):
        if done := good(results.of("parse", "airflow", name)):
            parsed = _spread(done, lambda run: float(run["parse_seconds"]))
            rows.append(
                (name, _count(done), str(done[-1]["dags"]), parsed, _spread(done, inside), _spread(done, peak()))
            )
    yield from _table(("", "runs", "DAGs", "seconds to parse", "and to serialise", "memory MB"), rows)


def _machine(results: Results) -> Iterator[str]:
    yield "## Measured on\n"
    found: dict[str, list[str]] = {}
    for record in results.of("machine"):
        for label, value in record.items():
            if label not in ("experiment", "engine", "name", "round"):
                found.setdefault(label, []).append(str(value))
    for label, values in found.items():
        yield f"- {label}: {'; '.join(dict.fromkeys(values))}"


def _count(runs: Sequence[Record]) -> str:
    disturbed = sum(run["disturbed"] for run in runs)
    few = " (preliminary)" if len(runs) < FEW else ""
    return f"{len(runs)}{few}" + (f", {disturbed} disturbed: memory counts, time does not" if disturbed else "")


def _spread(runs: Sequence[Record], number: Number) -> str:
    """Median, smallest and largest."""
    values = sorted(number(run) for run in runs)
    middle = values[len(values) // 2] if len(values) % 2 else sum(values[len(values) // 2 - 1 :][:2]) / 2
    digits = 0 if middle >= 100 else 2 if middle < 10 else 1
    whole = f"{middle:,.{digits}f}"
    return f"{whole} ({values[0]:,.{digits}f}-{values[-1]:,.{digits}f})" if len(values) > 1 else whole


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(cells)} |"
    yield ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
