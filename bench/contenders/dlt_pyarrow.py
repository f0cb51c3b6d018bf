"""dlt from sql_database to a folder of Parquet files, with its PyArrow backend."""

from pathlib import Path

from bench.contenders.dlt_connectorx import read
from bench.place import Place


def postgres(place: Place, folder: Path) -> None:
    read(place.url("postgresql+psycopg2"), place, folder, backend="pyarrow")


def mysql(place: Place, folder: Path) -> None:
    read(place.url("mysql+pymysql"), place, folder, backend="pyarrow")
