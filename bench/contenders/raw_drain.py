"""The protocol's limit: the server sends every row as text, and nobody looks at it."""

import os
import subprocess
from contextlib import closing
from pathlib import Path

from bench.place import Place


def postgres(place: Place, folder: Path) -> None:  # noqa: ARG001 - nothing is kept
    import psycopg2

    with (
        closing(psycopg2.connect(place.url("postgresql"))) as connection,
        connection.cursor() as cursor,
        Path(os.devnull).open("wb") as nowhere,
    ):
        cursor.copy_expert(f"copy ({place.query}) to stdout (format csv)", nowhere)


def mysql(place: Place, folder: Path) -> None:  # noqa: ARG001 - nothing is kept
    client = [*place.mariadb(), "--quick", "--batch", "-e", place.query]
    subprocess.run(client, stdout=subprocess.DEVNULL, check=True)
