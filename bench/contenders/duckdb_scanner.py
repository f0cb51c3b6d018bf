"""DuckDB's own scanners of PostgreSQL and MySQL, copying straight to Parquet."""

import importlib
from pathlib import Path

import duckdb

from bench.place import Place


def postgres(place: Place, folder: Path) -> None:
    read("postgres_scanner", "postgres", f"dbname={place.database}", f"public.{place.table}", place, folder)


def mysql(place: Place, folder: Path) -> None:
    read("mysql_scanner", "mysql", f"database={place.database}", f"{place.database}.{place.table}", place, folder)


def read(extension: str, kind: str, database: str, table: str, place: Place, folder: Path) -> None:
    package = Path(str(importlib.import_module(f"duckdb_extension_{extension}").__file__)).parent
    (binary,) = package.glob(f"extensions/*/{extension}.duckdb_extension")
    where = f"host={place.host} port={place.port} user={place.user} {database}"  # the password: from the environment
    connection = duckdb.connect()
    connection.execute(f"load '{binary}'")
    connection.execute(f"attach '{where}' as source (type {kind}, read_only)")
    options = "format parquet, compression zstd, row_group_size 131072"
    connection.execute(f"copy (select * from source.{table}) to '{folder / 'rows.parquet'}' ({options})")
