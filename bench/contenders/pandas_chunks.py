"""pandas: read_sql in chunks over a streaming connection, each chunk appended to a Parquet file."""

from pathlib import Path

import pandas as pd
import sqlalchemy

from bench.contenders.parquet_writer import write_frames
from bench.place import Place

CHUNK_ROWS = 100_000


def postgres(place: Place, folder: Path) -> None:
    read(place.url("postgresql+psycopg2"), place.query, folder)


def mysql(place: Place, folder: Path) -> None:
    read(place.url("mysql+pymysql"), place.query, folder)


def read(url: str, query: str, folder: Path) -> None:
    with sqlalchemy.create_engine(url).connect().execution_options(stream_results=True) as connection:
        write_frames(pd.read_sql(sqlalchemy.text(query), connection, chunksize=CHUNK_ROWS), folder)
