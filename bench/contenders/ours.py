"""This project's extract phase, called as its Airflow task calls it."""

from pathlib import Path

from bench import phases
from bench.place import Place
from include.etl.engines import mysql as mysql_engine  # noqa: F401 - imported before the clock starts,
from include.etl.engines import postgres as postgres_engine  # noqa: F401 - as other contenders' libraries are
from include.etl.phases import extract, plan  # noqa: F401


def postgres(place: Place, folder: Path) -> None:
    phases.configure(place, folder)
    phases.plan(folder)
    phases.extract(folder)


mysql = postgres
