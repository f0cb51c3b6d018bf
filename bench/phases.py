"""The phases of this project, each in a process of its own as Airflow runs them, with handovers kept as JSON files.

python -m bench.phases <phase> <folder>, the place in the environment. Prints how long the phase took without the start
of Python and of Airflow: a worker has both before it forks the process of a task.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from bench.place import Place, place
from include.etl.handover import Extracted, Handover, Plan, Transformed, Validated
from include.etl.phases.request import Parameters, Trigger
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage

NAME = "lineitem"
SUITE = Path(__file__).with_name("lineitem_suite.json")
SOURCE = {
    "source": NAME,
    "description": "TPC-H lineitem",
    "conn_id": "bench",
    "schedule": {"full": "0 0 1 * *"},
    "output": {"formats": ["parquet"]},
    "extract": {"statement_timeout": "1h"},
}
KEYED = {"primary_key": ["l_orderkey", "l_linenumber"], "cursor": {"column": "l_shipdate"}}


class Memory(dict[str, str]):
    """Airflow Variables of a single run: there is no metadata database here."""

    def set(self, key: str, value: str, description: str) -> None:  # noqa: ARG002 - as the protocol has it
        """Store the value."""
        self[key] = value

    def delete(self, key: str) -> None:
        """Remove the value."""
        del self[key]

    def overridden_by(self, key: str) -> str:  # noqa: ARG002 - nothing does here
        """What answers in place of what is stored."""
        return ""


def configure(place: Place, folder: Path, **more: Any) -> None:
    """Write the source's YAML; only the whole flow needs a key, a cursor and a suite."""
    sources = folder / "include" / "sources"
    sources.mkdir(parents=True)
    (sources / f"{NAME}.yaml").write_text(yaml.safe_dump({**SOURCE, "table": place.table, **more}))
    os.environ["ETL_INCLUDE"] = str(folder / "include")


def plan(folder: Path) -> None:
    """Phase 1."""
    from include.etl.phases.plan import plan as phase

    trigger = Trigger(datetime.now(UTC), default_mode="full")
    _keep(folder, "plan", phase(_run(folder), Parameters(), trigger, Memory()))


def extract(folder: Path) -> None:
    """Phase 2."""
    from include.etl.phases.extract import extract as phase

    planned = _plan(folder)
    _keep(folder, "extract", phase(_run(folder), planned, planned.slices[0]))


def validate(folder: Path) -> None:
    """Phase 3."""
    from include.etl.phases.validate import check as phase

    _keep(folder, "validate", phase(_run(folder), _plan(folder), [_extracted(folder)]))


def transform(folder: Path) -> None:
    """Phase 4."""
    from include.etl.phases.transform import transform as phase

    _keep(folder, "transform", phase(_run(folder), _plan(folder), [_extracted(folder)]))


def load(folder: Path) -> None:
    """Phase 5."""
    from include.etl.phases.load import load as phase

    validated, transformed = Validated(**_kept(folder, "validate")), Transformed(**_kept(folder, "transform"))
    done = phase(_run(folder), _plan(folder), [_extracted(folder)], validated, transformed, Memory())
    _keep(folder, "load", done)


PHASES: dict[str, Callable[[Path], Any]] = {
    "plan": plan,
    "extract": extract,
    "validate": validate,
    "transform": transform,
    "load": load,
}


def main(phase: str, folder: Path) -> None:
    """One phase; the first one writes the configuration of the whole flow."""
    if phase == "plan":
        configure(place(), folder, **KEYED, validation={"suite": SUITE.name})
        suites = folder / "include" / "expectations"
        suites.mkdir()
        (suites / SUITE.name).write_text(SUITE.read_text())
    os.environ["ETL_INCLUDE"] = str(folder / "include")
    import_module("airflow.sdk.execution_time.supervisor")
    started = time.perf_counter()
    PHASES[phase](folder)
    print(json.dumps({"inside_seconds": round(time.perf_counter() - started, 3)}))


def _run(folder: Path) -> Run:
    return Run(load_source(NAME), "bench", Storage(folder / "data"))


def _plan(folder: Path) -> Plan:
    return Plan(**_kept(folder, "plan"))


def _extracted(folder: Path) -> Extracted:
    return Extracted(**_kept(folder, "extract"))


def _keep(folder: Path, phase: str, handover: Handover) -> None:
    (folder / f"{phase}.json").write_text(handover.model_dump_json())


def _kept(folder: Path, phase: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{phase}.json").read_text())
    return content


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
