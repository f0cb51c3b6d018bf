"""Which Airflow is meant by commands that run outside of it."""

from __future__ import annotations

import os

from include.etl.config import INCLUDE

PROJECT_HOME = INCLUDE.parent / ".airflow"
"""The home of the Airflow that `make demo` and `make ui` start."""


def choose_home() -> None:
    """Take the project's own Airflow where AIRFLOW_HOME names none; call it before Airflow is imported."""
    if PROJECT_HOME.is_dir():
        os.environ.setdefault("AIRFLOW_HOME", str(PROJECT_HOME))
