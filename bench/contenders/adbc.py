"""ADBC's driver for PostgreSQL, which speaks the binary COPY protocol and returns Arrow."""

from pathlib import Path

from adbc_driver_postgresql import dbapi

from bench.contenders.parquet_writer import write
from bench.place import Place


def postgres(place: Place, folder: Path) -> None:
    with dbapi.connect(place.url("postgresql")) as connection, connection.cursor() as cursor:
        cursor.execute(place.query)
        reader = cursor.fetch_record_batch()
        write(reader, reader.schema, folder)
