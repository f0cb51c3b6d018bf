"""What Airflow asks for a Variable before its own database: an environment variable, or a secrets backend."""

from __future__ import annotations

import logging
import os
from typing import Any

log = logging.getLogger("etl.checkpoint")
PREFIX = "AIRFLOW_VAR_"


def override(key: str) -> str:
    """What answers for this Variable in place of the metadata database, by its name; empty where nothing does.

    Writing goes to the database all the same. The API server may have another environment than this process.
    """
    name = environment_variable(key)
    if name in os.environ:
        return f"environment variable {name}"
    backend = secrets_backend()
    if backend is None:
        return ""
    try:
        answers = backend.get_variable(key=key) is not None
    except Exception as error:  # noqa: BLE001 - whatever a backend raises; reading the Variable goes on as well
        log.warning("the secrets backend %s cannot be asked for %s: %s", _name(backend), key, type(error).__name__)
        return ""
    return f"secrets backend {_name(backend)}" if answers else ""


def suspects(key: str) -> str:
    """What it can be where nothing is found from here."""
    backend = secrets_backend()
    named = f"the secrets backend {_name(backend)}" if backend else "a secrets backend"
    return f"the API server's environment variable {environment_variable(key)}, or {named} there"


def environment_variable(key: str) -> str:
    """The name under which Airflow looks for the Variable in the environment."""
    return PREFIX + key.upper()


def secrets_backend() -> Any:
    """The secrets backend that airflow.cfg names, or None."""
    from airflow.sdk.configuration import get_custom_secret_backend

    worker = os.environ.get("_AIRFLOW_PROCESS_CONTEXT") != "server"
    return get_custom_secret_backend(worker_mode=worker)


def _name(backend: Any) -> str:
    return type(backend).__name__
