"""Everything that is compared. To add one: a file beside this one and a line below.

A contender's file has a function per database, `postgres(place, folder)` and `mysql(place, folder)`, or only one of
them. It reads the whole of `place.table` and writes it to `folder` as Parquet, as that tool's users would do it. It is
called in a fresh process of its own environment; the time counts from the start of that process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BOTH = ("postgres", "mysql")


@dataclass(frozen=True)
class Contender:
    """A way to get a table out of a database."""

    name: str
    module: str
    engines: tuple[str, ...] = BOTH
    environment: str | None = None
    """bench/requirements-<environment>.txt; the project's own environment where there is none."""
    role: Literal["ours", "peer", "limit"] = "peer"


CONTENDERS = [
    Contender("ours", "ours", role="ours"),
    Contender("raw drain", "raw_drain", role="limit"),
    Contender("pandas chunks", "pandas_chunks"),
    Contender("Airflow get_df_by_chunks", "airflow_hook"),
    Contender("ADBC", "adbc", ("postgres",), "adbc"),
    Contender("ConnectorX", "connector_x", environment="connectorx"),
    Contender("ConnectorX, 2 partitions", "connector_x_partitions", environment="connectorx"),
    Contender("dlt, ConnectorX", "dlt_connectorx", environment="dlt"),
    Contender("dlt, PyArrow", "dlt_pyarrow", environment="dlt"),
    Contender("DuckDB scanner", "duckdb_scanner", environment="duckdb"),
    Contender("Sling", "sling_binary", environment="sling"),
]
