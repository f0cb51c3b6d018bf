"""The demo: fictional databases, a local Airflow, four sources extracted from the one through the other.

python scripts/demo.py          extract what is new (everything, the first time) and show a table
python scripts/demo.py ui       the same Airflow with its web page, until Ctrl-C
python scripts/demo.py day      add a day of changes to the databases
python scripts/demo.py clean    remove all that the demo has made
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from include.etl.errors import ExtractionError
from include.etl.publication import standing
from include.etl.records import manifest
from include.etl.sources import load_sources
from include.etl.storage import Storage
from scripts import command_line as cli
from scripts.airflow_api import FINISHED, AirflowApi, Json
from scripts.demo_screen import Outcome, Screen, print_outcomes
from scripts.local_airflow import ROOT, LocalAirflow
from scripts.sync_pools import wanted_pools

HOME, DATABASES = ROOT / ".airflow", ROOT / "demo" / "data"
CONNECTIONS = {"polyclinic_db": "polyclinic.db", "nehr_db": "nehr.db", "warehouse_db": "warehouse.db"}
# Source -> the one whose published data its expectations refer to.
AFTER = {
    "dw_reference_codes": None,
    "polyclinic_patients": None,
    "nehr_diagnoses": "dw_reference_codes",
    "polyclinic_visits": "polyclinic_patients",
}
RUN_TIMEOUT_S = 600


class Runs:
    """Triggers each source's DAG as soon as the one it refers to has published, and gathers how they end."""

    def __init__(self, airflow: LocalAirflow, screen: Screen) -> None:
        self._airflow, self._api, self._screen = airflow, airflow.api, screen
        self._under_way: dict[str, str] = {}
        self.outcomes: dict[str, Outcome] = {}

    def all_ended(self) -> bool:
        """Start what can start, look at what is under way; True when every source has an outcome."""
        for source, after in AFTER.items():
            if source not in self.outcomes and source not in self._under_way:
                self._start(source, after)
        for source, run_id in list(self._under_way.items()):
            self._look(source, run_id)
        return len(self.outcomes) == len(AFTER)

    def _start(self, source: str, after: str | None) -> None:
        if after in self.outcomes and self.outcomes[after].publication is None:
            self.outcomes[source] = Outcome(source, 0, problems=[f"not started, since it refers to {after}"])
        elif after is None or after in self.outcomes:
            self._under_way[source] = self._api.trigger(source, {"reason": "demo"})

    def _look(self, source: str, run_id: str) -> None:
        instances = self._api.task_instances(source, run_id)
        self._screen.show(source, instances)
        run = self._api.run(source, run_id)
        if run["state"] in FINISHED:
            del self._under_way[source]
            self.outcomes[source] = self._outcome(source, run, instances)

    def _outcome(self, source: str, run: Json, instances: list[Json]) -> Outcome:
        started, ended = (datetime.fromisoformat(run[key]) for key in ("start_date", "end_date"))
        seconds = (ended - started).total_seconds()
        if run["state"] == "failed":
            return Outcome(source, seconds, problems=problems(self._airflow, source, run["dag_run_id"], instances))
        storage = Storage.from_environment()
        publication = standing.of_run(storage, source, source, run["dag_run_id"])
        if publication is None:
            return Outcome(source, seconds)
        path = manifest.published_folder(storage, source) / manifest.path_of(publication.window)
        return Outcome(source, seconds, publication, path)


def problems(airflow: LocalAirflow, source: str, run_id: str, instances: list[Json]) -> list[str]:
    """The error of each failed task, and the log file that has the rest."""
    found = []
    for instance in instances:
        if instance["state"] != "failed":
            continue
        events = airflow.api.task_log(source, run_id, instance)
        details = [detail for event in events for detail in event.get("error_detail") or []]
        found += [f"{instance['task_id']}: {detail['exc_type']}: {detail['exc_value']}" for detail in details[:1]]
        folder = airflow.logs / f"dag_id={source}" / f"run_id={run_id}" / f"task_id={instance['task_id']}"
        found += [f"log: {path}" for path in sorted(folder.rglob("*.log"))]
    return found or [f"no task failed; see {airflow.logs / 'scheduler.log'}"]


def run(console: Console) -> int:
    """Extract what is new through Airflow; 0 if none failed."""
    began = time.monotonic()
    with Screen(console) as screen:
        make_data(screen)
        screen.step("starting Airflow")
        with LocalAirflow(HOME, schedules=False) as airflow:
            prepare(airflow.api)
            runs = Runs(airflow, screen)
            with released(airflow.api):
                screen.step("extracting, validating, transforming, publishing")
                airflow.api.wait_until("the end of all runs", runs.all_ended, RUN_TIMEOUT_S)
            screen.step("stopping Airflow")
    outcomes = [runs.outcomes[source] for source in AFTER]
    print_outcomes(console, outcomes, ROOT)
    took = f"in {time.monotonic() - began:.0f} s"
    if any(outcome.problems for outcome in outcomes):
        console.print(f"\nFailed {took}.", style="red")
        return 1
    console.print(f"\nDone {took}. Next:")
    console.print(
        "  make demo-day   add a day of changes, which make demo then extracts\n  make ui         the web page"
    )
    return 0


def make_data(screen: Screen) -> None:
    """Make the databases if one is missing."""
    if not has_data():
        screen.step(f"making the demo databases in {DATABASES.relative_to(ROOT)}")
        generate()


def has_data() -> bool:
    """Whether all demo databases are there."""
    return all((DATABASES / file).exists() for file in CONNECTIONS.values())


def generate(*options: str) -> None:
    """Run the generator of fictional data."""
    subprocess.run([sys.executable, ROOT / "demo" / "generate.py", "--folder", DATABASES, *options], check=True)


def prepare(api: AirflowApi) -> None:
    """Connections and pools of the demo, and its DAGs as the scheduler knows them."""
    for connection, file in CONNECTIONS.items():
        body = {"connection_id": connection, "conn_type": "sqlite", "host": str(DATABASES / file)}
        api.put("connections", connection, body)
    for name, pool in wanted_pools(load_sources()).items():
        if api.find(f"/pools/{name}") is None:
            api.put("pools", name, {"name": name, **pool})
    for source in AFTER:
        api.wait_for_dag(source)


@contextmanager
def released(api: AirflowApi) -> Iterator[None]:
    """Let the demo's DAGs run, without what an interrupted demo left behind; paused again afterwards."""
    for source in AFTER:
        for run in api.runs(source):
            if run["state"] not in FINISHED:
                api.call("PATCH", f"/dags/{source}/dagRuns/{run['dag_run_id']}", {"state": "failed"})
        api.pause(source, paused=False)
    try:
        yield
    finally:
        for source in AFTER:
            api.pause(source, paused=True)


def ui(console: Console) -> int:
    """Airflow with its web page, until Ctrl-C or SIGTERM."""
    with Screen(console) as screen:
        make_data(screen)
        screen.step("starting Airflow")
    with LocalAirflow(HOME, port=8080) as airflow, suppress(KeyboardInterrupt):
        prepare(airflow.api)
        console.print(f"Airflow is at http://localhost:{airflow.port} (no password; this machine only).")
        console.print("DAGs are paused: open one and unpause it, or trigger it. Stop with Ctrl-C.")
        airflow.api.wait_until("the end", lambda: False, timeout_s=float("inf"), every_s=1)
    return 0


def day(console: Console) -> int:
    """Add a day of changes."""
    if not has_data():
        console.print("There are no demo databases yet: run make demo first.")
        return 2
    generate("--advance")
    console.print("A day of changes is in the demo databases; make demo extracts it.")
    return 0


def clean(console: Console) -> int:
    """Remove the local Airflow, the databases, and what the demo's sources published; nothing of other sources."""
    data = Storage.from_environment().root
    published = [area / source for area in data.glob("*") for source in AFTER]
    with LocalAirflow(HOME).locked():
        for folder in (*published, DATABASES, HOME):
            if folder.exists():
                shutil.rmtree(folder)
                console.print(f"removed {folder}")
    return 0


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = {"run": run, "ui": ui, "day": day, "clean": clean}
    parser.add_argument("command", nargs="?", choices=commands, default="run")
    cli.add_yes(parser)
    console = Console()

    def interrupted(*_: object) -> None:
        console.print("stopping ...")
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    asked = parser.parse_args()
    try:
        if asked.command == "clean":
            cli.confirm(
                asked, f"The demo's Airflow goes, and in {Storage.from_environment().root}: {', '.join(AFTER)}."
            )
        return commands[asked.command](console)
    except cli.Declined as declined:
        console.print(str(declined))
        return cli.FAILED
    except KeyboardInterrupt:
        return 130
    except (RuntimeError, ExtractionError, TimeoutError, subprocess.CalledProcessError) as error:
        console.print(str(error), style="red", markup=False)
        return 1


if __name__ == "__main__":
    sys.exit(main())
