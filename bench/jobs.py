"""What is measured and how often: jobs in rounds, interleaved, so that a slow minute of the machine hits all alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure import Cost, measure, quiet_machine
from bench.records import Record, Records

Check = Callable[[Path], dict[str, Any]]
REPEATS = 2
"""How often a disturbed run is done again before it is kept as it is."""


@dataclass(frozen=True)
class Job:
    """One thing to measure: commands that run one after the other, each in a process of its own."""

    experiment: str
    engine: str
    name: str
    steps: Mapping[str, Sequence[str]]
    """Step -> its command."""
    environment: Mapping[str, str]
    target: Path
    """Folder for what the commands write; emptied before each run."""
    server: int | None = None
    """Process id of the database server."""
    check: Check | None = None
    """What is found out about the target afterwards."""
    facts: Mapping[str, Any] = field(default_factory=dict)


def run(jobs: Sequence[Job], rounds: int, records: Records) -> None:
    """All jobs, in rounds; what is in the records already is left out, and what failed once is not tried again."""
    broken: set[str] = set()
    for number in range(1, rounds + 1):
        for job in jobs:
            record: Record = {"experiment": job.experiment, "engine": job.engine, "name": job.name, "round": number}
            if job.name in broken or records.has(record):
                continue
            for repeat in range(REPEATS + 1):
                with quiet_machine():
                    done = {**record, "repeat": repeat, **_done(job)}
                records.append(done)
                print(_line(done), flush=True)
                if done["error"] or not done["disturbed"]:
                    break
            if done["error"]:
                broken.add(job.name)


def warm_up(jobs: Sequence[Job]) -> None:
    """Each job once without a record: byte code compiled, libraries and tables in the machine's cache."""
    for job in jobs:
        print(f"{job.engine:<9}{job.name:<28} warm-up: {_done(job)['error'] or 'ok'}", flush=True)


def _done(job: Job) -> Record:
    shutil.rmtree(job.target, ignore_errors=True)
    job.target.mkdir(parents=True)
    steps: dict[str, Cost] = {}
    for name, command in job.steps.items():
        steps[name] = measure(command, job.environment, job.server)
        if steps[name].error:
            break
    error = next((f"{name}: {cost.error}" for name, cost in steps.items() if cost.error), None)
    checked = job.check(job.target) if job.check and not error else {}
    shutil.rmtree(job.target, ignore_errors=True)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(sum(cost.seconds for cost in steps.values()), 3),
        "disturbed": any(cost.disturbed for cost in steps.values()),
        "steps": {name: _numbers(cost) for name, cost in steps.items()},
        "error": error,
        **job.facts,
        **_said(list(steps.values())[-1]),
        "inside_seconds": round(sum(_inside(cost) for cost in steps.values()), 3),
        **checked,
    }


def _numbers(cost: Cost) -> dict[str, Any]:
    numbers = {name: value for name, value in asdict(cost).items() if name not in ("output", "error")}
    return {**numbers, "inside_seconds": _inside(cost)}


def _inside(cost: Cost) -> float:
    """Seconds of the work itself, where the command says how long that took."""
    return float(_said(cost).get("inside_seconds", cost.seconds))


def _said(cost: Cost) -> dict[str, Any]:
    """Facts that the command printed as JSON on its last line."""
    last = cost.output.rpartition("\n")[2]
    return dict(json.loads(last)) if last.startswith("{") else {}


def _line(record: Record) -> str:
    memory = max(step["memory_mb"] for step in record["steps"].values())
    cpu, server = (sum(step[key] for step in record["steps"].values()) for key in ("cpu", "server_cpu"))
    marks = " disturbed" * record["disturbed"] + (f" FAILED {record['error']}" if record["error"] else "")
    label = f"{record['experiment']} {record['engine']:<9}{record['name']:<28} {record['round']}"
    return f"{label}  {record['seconds']:8.2f} s  cpu {cpu:6.1f}  server {server:6.1f}  {memory:7.0f} MB{marks}"
