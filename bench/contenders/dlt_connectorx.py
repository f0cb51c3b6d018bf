"""dlt from sql_database to a folder of Parquet files, with its ConnectorX backend."""

import os
from pathlib import Path
from typing import Any

from bench.place import Place

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
CHUNK_ROWS = 131_072


def postgres(place: Place, folder: Path) -> None:
    options = {"return_type": "arrow_stream", "conn": place.url("postgresql")}
    read(place.url("postgresql+psycopg2"), place, folder, backend="connectorx", backend_kwargs=options)


def mysql(place: Place, folder: Path) -> None:
    options = {"return_type": "arrow_stream", "conn": place.url("mysql")}
    read(place.url("mysql+pymysql"), place, folder, backend="connectorx", backend_kwargs=options)


def read(url: str, place: Place, folder: Path, **options: Any) -> None:
    import dlt
    from dlt.sources.sql_database import sql_table

    target = dlt.destinations.filesystem(bucket_url=folder.as_uri())
    pipeline = dlt.pipeline("bench", destination=target, dataset_name="out", pipelines_dir=str(folder / ".dlt"))
    rows = sql_table(credentials=url, table=place.table, chunk_size=CHUNK_ROWS, **options)
    pipeline.run(rows, loader_file_format="parquet")
