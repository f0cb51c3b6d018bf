"""Where a contender reads: handed from process to process in the environment. Standard library only."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from urllib.parse import quote

VARIABLE = "BENCH_PLACE"


@dataclass(frozen=True)
class Place:
    """A table of a database server."""

    engine: str
    host: str
    port: int
    user: str
    password: str
    database: str
    table: str

    @property
    def query(self) -> str:
        """The whole table."""
        return f"select * from {self.table}"

    def url(self, scheme: str) -> str:
        """The server's address with this scheme, such as postgresql or mysql+pymysql."""
        return f"{scheme}://{self.user}:{quote(self.password, safe='')}@{self.host}:{self.port}/{self.database}"

    def mariadb(self) -> list[str]:
        """The command line client, which takes the password from the environment."""
        where = [f"--host={self.host}", f"--port={self.port}", f"--user={self.user}"]
        return ["mariadb", "--no-defaults", *where, self.database]

    def environment(self) -> dict[str, str]:
        """This place for another process: for ours, for Airflow, and for the databases' own clients."""
        connection = {
            "conn_type": self.engine,
            "host": self.host,
            "port": self.port,
            "login": self.user,
            "password": self.password,
            "schema": self.database,
        }
        return {
            "PATH": os.environ["PATH"],
            VARIABLE: json.dumps(asdict(self)),
            "AIRFLOW_CONN_BENCH": json.dumps(connection),
            "PGPASSWORD": self.password,
            "MYSQL_PWD": self.password,
        }


def place() -> Place:
    """The place that this process was given."""
    return Place(**json.loads(os.environ[VARIABLE]))
