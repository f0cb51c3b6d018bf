"""What psycopg2 is given to connect: the Airflow connection as its hook understands it, and this session's own."""

from __future__ import annotations

import math
from typing import Any

from airflow.providers.postgres.hooks.postgres import PostgresHook

from include.etl.engines.base import Engine

CHECKED_TLS = ("require", "verify-ca", "verify-full")
"""Modes of libpq in which no password is sent before the line is encrypted."""
KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


def connection_arguments(engine: Engine) -> dict[str, Any]:
    """Arguments of psycopg2.connect; a timeout of libpq is whole seconds."""
    hook = PostgresHook(postgres_conn_id=engine.conn_id)
    conn = hook.connection
    login, password, port = conn.login, conn.password, conn.port
    if conn.extra_dejson.get("iam"):
        login, password, port = hook.get_iam_token(conn)
    extras = {key: value for key, value in conn.extra_dejson.items() if key not in hook.ignored_extra_options}
    if engine.limits.require_tls and extras.get("sslmode") not in CHECKED_TLS:
        extras["sslmode"] = "require"
    return {
        **KEEPALIVES,
        **extras,
        "host": conn.host,
        "port": port,
        "user": login,
        "password": password,
        "dbname": conn.schema,
        "connect_timeout": math.ceil(engine.limits.connect_timeout_s),
        "application_name": engine.label,
        "client_encoding": "UTF8",
    }
