"""Experiment: lineitem to Parquet, every contender on every database."""

from __future__ import annotations

import subprocess
from functools import partial

from bench import exact
from bench.contenders import CONTENDERS, Contender
from bench.databases import Database, database, lineitem
from bench.environments import WORK, python_of
from bench.jobs import Job, run, warm_up
from bench.records import Records

EXPERIMENT = "readers"
WARM_UP_SCALE = 0.01


def readers(engine: str, scale: float, rounds: int, records: Records, only: str | None = None) -> None:
    """Every contender that reads this database; or only the one of this name."""
    with database(engine) as source:
        source.load("warm_up", lineitem(WARM_UP_SCALE))
        source.load("lineitem", lineitem(scale))
        truth = exact.found(lineitem(scale))
        chosen = [one for one in CONTENDERS if engine in one.engines and only in (None, one.name)]
        known = [(one, python) for one in chosen if (python := _python(one, engine, records))]
        warm_up([job(source, one, python, "warm_up", truth) for one, python in known])
        run([job(source, one, python, "lineitem", truth) for one, python in known], rounds, records)


def job(source: Database, contender: Contender, python: str, table: str, truth: dict[str, object]) -> Job:
    """A contender reading a table; its rows are compared where it writes any."""
    target = WORK / "target"
    return Job(
        EXPERIMENT,
        source.engine,
        contender.name,
        {"read": [python, "-m", "bench.contenders", contender.module, str(target)]},
        source.place(table).environment(),
        target,
        source.pid,
        None if contender.role == "limit" else partial(exact.compared, truth=truth),
        {"role": contender.role},
    )


def _python(contender: Contender, engine: str, records: Records) -> str | None:
    try:
        return python_of(contender.environment)
    except subprocess.CalledProcessError:
        reason = f"the packages of requirements-{contender.environment}.txt cannot be installed here"
        key = {"experiment": EXPERIMENT, "engine": engine, "name": contender.name, "round": 1}
        records.append({**key, "error": reason, "role": contender.role, "steps": {}, "disturbed": False})
        return None
