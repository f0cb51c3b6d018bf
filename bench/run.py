"""Benchmarks of this project against what one would pick instead. docs/benchmarks.md tells more.

    make bench                                                everything, then the report; several hours
    python bench/run.py readers --engine postgres --rounds 5  one experiment
    python bench/run.py report                                bench/RESULTS.md and the plot, from the results so far

Results are appended to bench/results.jsonl as they come. An experiment that is started again replaces its results;
with --resume it goes on where it was stopped.

BENCH_LOCK names a lock file that each single run takes, on a machine that is shared. BENCH_DATA is the folder for
TPC-H files, and BENCH_WORK for everything else (both below bench/.work by default).
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from bench import flow, machine, parse, probes, readers, scale, wide  # noqa: E402
from bench.environments import BENCH, python_of  # noqa: E402
from bench.measure import measure  # noqa: E402
from bench.records import Records  # noqa: E402

ENGINES = ("postgres", "mysql")
RESULTS = BENCH / "results.jsonl"
Experiment = Callable[[str, argparse.Namespace, int, Records], None]


def _readers(engine: str, asked: argparse.Namespace, rounds: int, records: Records) -> None:
    readers.readers(engine, asked.scale, rounds, records, asked.only)


def _types(engine: str, _: argparse.Namespace, __: int, records: Records) -> None:
    probes.probes(engine, records)


def _flow(_: str, asked: argparse.Namespace, rounds: int, records: Records) -> None:
    flow.flow(asked.scale, rounds, records)


def _parse(_: str, __: argparse.Namespace, rounds: int, records: Records) -> None:
    parse.parse(rounds, records)


def _scale(_: str, asked: argparse.Namespace, rounds: int, records: Records) -> None:
    scale.scale(asked.scale, rounds, records)


def _wide(engine: str, _: argparse.Namespace, rounds: int, records: Records) -> None:
    wide.wide(engine, rounds, records)


EXPERIMENTS: dict[str, tuple[tuple[str, ...], int, Experiment]] = {
    "readers": (ENGINES, 5, _readers),
    "types": (ENGINES, 1, _types),
    "flow": (("postgres",), 5, _flow),
    "parse": (("airflow",), 5, _parse),
    "scale": (("postgres",), 2, _scale),
    "wide": (ENGINES, 3, _wide),
}
"""Name -> the databases it reads, its rounds, and what does it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    asked = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # servers end and their folders go
    records = Records(asked.results)
    for name in EXPERIMENTS if asked.experiment == "all" else [asked.experiment]:
        if name != "report":
            _experiment(name, asked, records)
    if asked.experiment in ("all", "report"):
        _report(asked.results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=[*EXPERIMENTS, "report", "all"])
    parser.add_argument("--engine", choices=ENGINES, help="only this database")
    parser.add_argument("--rounds", type=int, help="how often each is run; 5, but 2 for scale and 3 for wide")
    parser.add_argument("--scale", type=float, default=1, help="TPC-H scale factor; 1 is 6 million rows")
    parser.add_argument("--only", metavar="NAME", help="readers: only this contender")
    parser.add_argument("--resume", action="store_true", help="keep the results there are and do what is missing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of results")
    return parser


def _experiment(name: str, asked: argparse.Namespace, records: Records) -> None:
    engines, rounds, work = EXPERIMENTS[name]
    for engine in engines:
        if asked.engine in (None, engine) or engine == "airflow":
            if not asked.resume:
                records.forget(name, engine, asked.only)
            key = {"experiment": "machine", "engine": engine, "name": name, "round": 1}
            records.append({**key, **machine.machine(), "scale factor": asked.scale})
            work(engine, asked, asked.rounds or rounds, records)


def _report(results: Path) -> None:
    """In the environment that has matplotlib."""
    done = measure([python_of("report"), "-m", "bench.report", str(results), str(BENCH)], {})
    if done.error:
        raise SystemExit(f"report: {done.error}")


if __name__ == "__main__":
    main()
