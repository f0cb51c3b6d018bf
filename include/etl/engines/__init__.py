"""Databases that can be read: the Airflow connection's type -> the engine. To add one: a file and a line."""

from __future__ import annotations

from importlib import import_module

from include.etl.config import Source
from include.etl.engines.base import Engine, Limits
from include.etl.errors import ConfigurationError

ENGINES = {
    "sqlite": "include.etl.engines.sqlite:SqliteEngine",
    "postgres": "include.etl.engines.postgres:PostgresEngine",
    "mysql": "include.etl.engines.mysql:MySqlEngine",
    "mssql": "include.etl.engines.mssql:MsSqlEngine",
    "oracle": "include.etl.engines.oracle:OracleEngine",
}


def engine_class(conn_type: str, conn_id: str) -> type[Engine]:
    """The engine class for a connection type; the driver is imported here and not before."""
    if conn_type not in ENGINES:
        raise ConfigurationError(
            f"connection {conn_id!r}: no engine reads connection type {conn_type!r}; allowed: {', '.join(ENGINES)}"
        )
    module, name = ENGINES[conn_type].split(":")
    engine: type[Engine] = getattr(import_module(module), name)
    return engine


def open_engine(conn_id: str, limits: Limits | None = None, label: str = "") -> Engine:
    """The engine that reads this Airflow connection; looks the connection up, so never call it while parsing."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        conn_type = BaseHook.get_connection(conn_id).conn_type
    except AirflowNotFoundException as error:
        raise ConfigurationError(
            f"connection {conn_id!r} is not defined in Airflow; add it under Admin > Connections, "
            f"as AIRFLOW_CONN_{conn_id.upper()}, or in the secrets backend"
        ) from error
    return engine_class(conn_type or "", conn_id)(conn_id, limits, label)


def open_source(source: Source, label: str) -> Engine:
    """The engine of a source's connection, with the source's limits."""
    limits = Limits(
        batch_rows=source.extract.batch_rows,
        statement_timeout_s=source.extract.statement_timeout.total_seconds(),
        connect_timeout_s=source.extract.connect_timeout.total_seconds(),
        require_tls=source.extract.require_tls,
        row_security=source.extract.row_security,
    )
    return open_engine(source.conn_id, limits, label)
