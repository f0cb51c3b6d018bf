"""DuckDB as Great Expectations sees it: an execution engine, a datasource, and DuckDB's own names of types."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import duckdb
import sqlalchemy as sa
from great_expectations.datasource.fluent.sql_datasource import SQLDatasource
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

from include.etl.errors import StorageError
from include.etl.validation.suites import BATCH

THREADS = 2


@contextmanager
def database(views: Mapping[str, Sequence[Path]], memory_limit_mb: int, spill: Path) -> Iterator[sa.Connection]:
    """A DuckDB in memory with a view per name over its Parquet parts.

    It may read those parts, write to `spill` and touch no other file, whatever an SQL rule says.
    """
    config = {"memory_limit": f"{memory_limit_mb}MB", "threads": THREADS, "temp_directory": str(spill)}
    engine = sa.create_engine(
        "duckdb:///:memory:",
        poolclass=sa.StaticPool,
        isolation_level="AUTOCOMMIT",  # or the first failing statement would fail all that follow
        hide_parameters=True,
        connect_args={"config": config},
    )
    try:
        with engine.connect() as connection:
            for name, parts in views.items():
                _create_view(connection, name, parts)
            _shut_in(connection, [part for parts in views.values() for part in parts])
            yield connection
    finally:
        engine.dispose()


def _create_view(connection: sa.Connection, name: str, parts: Sequence[Path]) -> None:
    files = ", ".join(_text(glob.escape(str(part))) for part in parts)
    options = "hive_partitioning = false" if name == BATCH else "union_by_name = true"
    statement = f"CREATE VIEW {quoted(name)} AS SELECT * FROM read_parquet([{files}], {options})"
    try:
        connection.exec_driver_sql(statement)
    except (sa.exc.DBAPIError, duckdb.Error) as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise StorageError(f"Parquet files of {name!r} cannot be read: {reason}") from None


def _shut_in(connection: sa.Connection, parts: Sequence[Path]) -> None:
    # The patterns too: DuckDB asks for permission to look a pattern up before it finds the file.
    allowed = ", ".join(_text(name) for part in parts for name in {str(part), glob.escape(str(part))})
    for setting in (
        "TimeZone = 'UTC'",
        f"allowed_paths = [{allowed}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.exec_driver_sql(f"SET {setting}")


def quoted(identifier: str) -> str:
    """An identifier as DuckDB's SQL writes it."""
    return '"' + identifier.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def column_types(connection: sa.Connection, name: str = BATCH) -> dict[str, str]:
    """Columns of a view, in order, with DuckDB's names of their types."""
    return {row[0]: row[1] for row in connection.exec_driver_sql(f"DESCRIBE {quoted(name)}")}


def canonical_type(name: str) -> str:
    """DuckDB's own name of a type (`text` is VARCHAR); a plain DECIMAL stays so and means any precision.

    Raises:
        ValueError: DuckDB knows no such type.
    """
    if name.upper() in ("DECIMAL", "NUMERIC"):
        return "DECIMAL"
    try:
        return str(duckdb.sqltype(name))
    except duckdb.Error:
        raise ValueError(f"DuckDB knows no type {name!r}") from None


@cache
def _type_class(name: str) -> type:
    """GX compares types with isinstance: DECIMAL(10,2) is one class, and a DECIMAL."""
    base = _type_class(name.partition("(")[0]) if "(" in name else object
    return type(name, (base,), {"__str__": lambda _: name})


class _TypeNames(ModuleType):
    """Where GX looks types up by name.

    GX also recognises a database by names found here, and asks Dremio, like DuckDB, for REGEXP_MATCHES(value, regex).
    """

    DremioDialect = True

    def __getattr__(self, name: str) -> type:
        try:
            return _type_class(canonical_type(name))
        except ValueError as error:
            raise AttributeError(str(error)) from None


class DuckDBExecutionEngine(SqlAlchemyExecutionEngine):
    """Runs all queries of GX on one kept connection: GX closes its own before it fetches, which DuckDB refuses."""

    def __init__(self, connection: sa.Connection) -> None:
        super().__init__(engine=connection.engine, create_temp_table=False)
        self.kept = connection
        self.dialect_module = _TypeNames("duckdb_types")

    @contextmanager
    def get_connection(self) -> Iterator[sa.Connection]:
        """The kept connection."""
        yield self.kept

    def close(self) -> None:
        """Nothing to do: the connection belongs to `database`."""


class DuckDBColumnTypes(TableMetricProvider):
    """Column types by DuckDB's names; SQLAlchemy's classes know neither unsigned nor zoned from unzoned."""

    metric_name = "table.column_types"
    value_keys = ("include_nested",)
    default_kwarg_values = {"include_nested": True}  # noqa: RUF012 - as GX declares it

    @metric_value(engine=DuckDBExecutionEngine)
    def _duckdb(cls, execution_engine: DuckDBExecutionEngine, **_: Any) -> list[dict[str, Any]]:  # noqa: N805
        types = column_types(execution_engine.kept)
        return [{"name": name, "type": _type_class(type_)()} for name, type_ in types.items()]


class DuckDBDatasource(SQLDatasource):
    """GX's SQL datasource over a connection that is already open."""

    type: Literal["duckdb"] = "duckdb"  # type: ignore[assignment]

    @classmethod
    def over(cls, connection: sa.Connection) -> DuckDBDatasource:
        """The datasource whose queries all run on this connection."""
        datasource = cls(name="duckdb", connection_string="duckdb:///:memory:")
        datasource._engine = connection.engine
        datasource._cached_connection_string = datasource.connection_string
        datasource._execution_engine = DuckDBExecutionEngine(connection)
        return datasource

    def get_execution_engine(self) -> SqlAlchemyExecutionEngine:
        """The engine made by `over`."""
        assert isinstance(self._execution_engine, SqlAlchemyExecutionEngine)
        return self._execution_engine
