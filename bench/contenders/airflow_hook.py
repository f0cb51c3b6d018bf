"""The Airflow provider's hook: get_df_by_chunks, with the driver that the hook takes."""

import importlib.util
import json
import os
from pathlib import Path

from bench.contenders.pandas_chunks import CHUNK_ROWS
from bench.contenders.parquet_writer import write_frames
from bench.place import Place


def postgres(place: Place, folder: Path) -> None:
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    write_frames(PostgresHook("bench").get_df_by_chunks(place.query, chunksize=CHUNK_ROWS), folder)


def mysql(place: Place, folder: Path) -> None:
    from airflow.providers.mysql.hooks.mysql import MySqlHook

    connection = json.loads(os.environ["AIRFLOW_CONN_BENCH"])
    if not importlib.util.find_spec("MySQLdb"):  # the hook's default has to be compiled
        connection["extra"] = {"client": "mysql-connector-python"}
    os.environ["AIRFLOW_CONN_BENCH"] = json.dumps(connection)
    write_frames(MySqlHook("bench").get_df_by_chunks(place.query, chunksize=CHUNK_ROWS), folder)
