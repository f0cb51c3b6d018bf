"""ConnectorX as a stream of Arrow batches, one connection."""

from pathlib import Path
from typing import Any

import connectorx

from bench.contenders.parquet_writer import write
from bench.place import Place

BATCH_ROWS = 131_072


def postgres(place: Place, folder: Path) -> None:
    read(place.url("postgresql"), place.query, folder)


def mysql(place: Place, folder: Path) -> None:
    read(place.url("mysql"), place.query, folder)


def read(url: str, query: str, folder: Path, **options: Any) -> None:
    reader = connectorx.read_sql(url, query, return_type="arrow_stream", batch_size=BATCH_ROWS, **options)
    write(reader, reader.schema, folder)
