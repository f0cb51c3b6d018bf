"""A database server that tests may write to, as an Airflow connection and as the driver's own."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode


class ServerMissing(Exception):
    """The machine has no binaries of this server; the message says how to get them."""


@dataclass
class DatabaseServer:
    """A running server; `kill` ends it without a goodbye, as a power cut would."""

    conn_type: str
    host: str
    port: int
    user: str
    password: str
    database: str
    process: subprocess.Popen[bytes] | None = None
    extra: dict[str, str] = field(default_factory=dict)
    certificate: Path | None = None
    """What the server shows to clients that speak TLS; it is its own authority."""

    @property
    def airflow_connection(self) -> str:
        """The Airflow connection as JSON, for an AIRFLOW_CONN_<ID> variable."""
        names = {"login": self.user, "password": self.password, "schema": self.database}
        place = {"conn_type": self.conn_type, "host": self.host, "port": self.port}
        return json.dumps({**place, **names, "extra": self.extra})

    @property
    def airflow_uri(self) -> str:
        """The same connection as a URI."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        query = f"?{urlencode(self.extra)}" if self.extra else ""
        return f"{self.conn_type}://{login}@{self.host}:{self.port}/{self.database}{query}"

    def connect(self) -> Any:
        """A DB-API connection for writing, in autocommit; close it."""
        if self.conn_type == "postgres":
            import psycopg2

            connection = psycopg2.connect(
                host=self.host, port=self.port, user=self.user, password=self.password, dbname=self.database
            )
            connection.autocommit = True
            return connection
        if self.conn_type == "mssql":
            return self._connect_mssql()
        if self.conn_type == "oracle":
            return self._connect_oracle()
        import pymysql

        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password.encode(),
            database=self.database,
            autocommit=True,
        )

    def _connect_mssql(self) -> Any:
        import pymssql

        return pymssql.connect(
            server=self.host,
            port=str(self.port),
            user=self.user,
            password=self.password,
            database=self.database,
            autocommit=True,
        )

    def _connect_oracle(self) -> Any:
        import oracledb

        dsn = f"{self.host}:{self.port}/{self.database}"
        connection = oracledb.connect(user=self.user, password=self.password, dsn=dsn)
        connection.autocommit = True
        return connection

    def execute(self, sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, if it has any."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(sql, *([parameters] if parameters is not None else []))
            return list(cursor.fetchall()) if cursor.description else []

    def kill(self) -> None:
        """End a throwaway server at once."""
        assert self.process is not None, "only a throwaway server can be killed"
        self.process.kill()
        self.process.wait()
