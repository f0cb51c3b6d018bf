"""Experiment: how long Airflow's DAG processor needs for dags/sources.py with many sources.

python -m bench.parse <generate | parse> <folder> <sources>: one step of it, in a process of its own.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bench.environments import WORK
from bench.jobs import Job, run
from bench.measure import ROOT
from bench.records import Records

EXPERIMENT = "parse"
COUNTS = (10, 100, 1_000)
TEMPLATE = ROOT / "include" / "sources" / "polyclinic_visits.yaml"


def parse(rounds: int, records: Records) -> None:
    """Copies of a source that ships with the project, which has two schedules, so two DAGs."""
    run([_job(count) for count in COUNTS], rounds, records)


def _job(count: int) -> Job:
    folder = WORK / "target"
    steps = {
        step: [sys.executable, "-m", "bench.parse", step, str(folder), str(count)] for step in ("generate", "parse")
    }
    environment = {"ETL_INCLUDE": str(folder), "AIRFLOW_HOME": str(WORK / "airflow")}
    return Job(EXPERIMENT, "airflow", f"{count} sources", steps, environment, folder, facts={"sources": count})


def generate(folder: Path, count: int) -> None:
    """Write the sources, with the project's own defaults."""
    sources = folder / "sources"
    sources.mkdir()
    defaults = TEMPLATE.with_name("_defaults.yaml")
    (sources / defaults.name).write_text(defaults.read_text())
    for number in range(count):
        name = f"{TEMPLATE.stem}_{number:04d}"
        text = TEMPLATE.read_text().replace(f"source: {TEMPLATE.stem}", f"source: {name}")
        (sources / f"{name}.yaml").write_text(text)


def parse_once() -> dict[str, float]:
    """What the DAG processor does with a file: load it into a DagBag, and serialise the DAGs found."""
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.serialization.serialized_objects import DagSerialization

    started = time.perf_counter()
    file = ROOT / "dags" / "sources.py"
    bag = BundleDagBag(dag_folder=file, bundle_path=ROOT, bundle_name="bench", load_op_links=False)
    parsed = time.perf_counter()
    if bag.import_errors or any("broken" in dag.tags for dag in bag.dags.values()):
        raise SystemExit(f"DAGs are broken: {list(bag.import_errors.values())[:1]}")
    for dag in bag.dags.values():
        DagSerialization.to_dict(dag)
    done = time.perf_counter()
    return {
        "dags": len(bag.dags),
        "parse_seconds": round(parsed - started, 3),
        "inside_seconds": round(done - started, 3),
    }


if __name__ == "__main__":
    if sys.argv[1] == "generate":
        generate(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        print(json.dumps(parse_once()))
