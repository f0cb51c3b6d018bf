"""Experiment: extract, validate, transform and load lineitem from PostgreSQL, against the same with pandas."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import exact
from bench.databases import Database, database, lineitem
from bench.environments import WORK
from bench.jobs import Check, Job, run, warm_up
from bench.records import Records

EXPERIMENT = "flow"
PHASES = ("plan", "extract", "validate", "transform", "load")
WARM_UP_SCALE = 0.01


def flow(scale: float, rounds: int, records: Records) -> None:
    """Ours with each phase in a process of its own; pandas with one to read and one for the rest."""
    with database("postgres") as source:
        source.load("warm_up", lineitem(WARM_UP_SCALE))
        source.load("lineitem", lineitem(scale))
        check = published(exact.found(lineitem(scale), trimmed=True))
        ways = {"ours": ours(), "pandas": pandas(), "raw drain": drain()}
        warm_up([job(source, EXPERIMENT, name, steps, "warm_up") for name, steps in ways.items()])
        jobs = [job(source, EXPERIMENT, name, steps, "lineitem", check) for name, steps in ways.items()]
        run(jobs, rounds, records)


def ours() -> dict[str, Sequence[str]]:
    """Our phases as commands."""
    return {phase: [sys.executable, "-m", "bench.phases", phase, str(_target())] for phase in PHASES}


def pandas() -> dict[str, Sequence[str]]:
    """The same work in pandas: what follows reading stays in one process, so that it reads the rows once."""
    return {
        "extract": [sys.executable, "-m", "bench.contenders", "pandas_chunks", str(_target())],
        "validate, transform, load": [sys.executable, "-m", "bench.pandas_flow", str(_target())],
    }


def drain() -> dict[str, Sequence[str]]:
    """The protocol's limit, measured in the same rounds."""
    return {"read": [sys.executable, "-m", "bench.contenders", "raw_drain", str(_target())]}


def job(
    source: Database,
    experiment: str,
    name: str,
    steps: Mapping[str, Sequence[str]],
    table: str,
    check: Check | None = None,
) -> Job:
    """A way to do the flow, as a job."""
    checked = check if name != "raw drain" else None
    return Job(experiment, "postgres", name, steps, source.place(table).environment(), _target(), source.pid, checked)


def _target() -> Path:
    return WORK / "target"


def published(truth: dict[str, Any]) -> Check:
    """A check of what a flow has published."""
    return lambda folder: exact.compared(folder / "data" / "processed", truth)
