"""TPC-H lineitem in throwaway database servers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.environments import WORK, python_of
from bench.place import Place
from tests import servers
from tests.servers import DatabaseServer

DATA = Path(os.environ.get("BENCH_DATA") or WORK / "data")
STARTERS = {"postgres": servers.postgres, "mysql": servers.mariadb}
COLUMNS = {
    "l_orderkey": "bigint",
    "l_partkey": "int",
    "l_suppkey": "int",
    "l_linenumber": "int",
    "l_quantity": "decimal(15,2)",
    "l_extendedprice": "decimal(15,2)",
    "l_discount": "decimal(15,2)",
    "l_tax": "decimal(15,2)",
    "l_returnflag": "varchar(1)",
    "l_linestatus": "varchar(1)",
    "l_shipdate": "date",
    "l_commitdate": "date",
    "l_receiptdate": "date",
    "l_shipinstruct": "varchar(25)",
    "l_shipmode": "varchar(10)",
    "l_comment": "varchar(44)",
}
"""Types that PostgreSQL, MariaDB and DuckDB write alike."""


@dataclass(frozen=True)
class Database:
    """A running server that holds the tables of a benchmark."""

    engine: str
    server: DatabaseServer

    @property
    def pid(self) -> int | None:
        """The server's process, if we have started it."""
        return self.server.process.pid if self.server.process else None

    def place(self, table: str) -> Place:
        """Where a contender reads this table."""
        server = self.server
        return Place(self.engine, server.host, server.port, server.user, server.password, server.database, table)

    def load(self, table: str, rows: Path) -> None:
        """Make a table of TPC-H rows."""
        columns = ", ".join(f"{name} {kind} not null" for name, kind in COLUMNS.items())
        self.server.execute(f"create table {table} ({columns}, primary key (l_orderkey, l_linenumber))")
        _copy(self, table, rows)
        for statement in _ANALYSE[self.engine]:
            self.server.execute(f"{statement} {table}")


_ANALYSE = {"postgres": ["vacuum (freeze, analyze)"], "mysql": ["analyze table"]}


@contextmanager
def database(engine: str) -> Iterator[Database]:
    """An empty server of this kind; its cache holds what is read, so that no disk is measured."""
    with STARTERS[engine]() as server:
        if engine == "mysql":
            server.execute("set global innodb_buffer_pool_size = 3221225472")
        yield Database(engine, server)


def lineitem(scale: float) -> Path:
    """TPC-H lineitem of this scale factor as CSV; made on first use, kept."""
    folder = DATA / f"sf{scale:g}"
    path = folder / "lineitem.csv"
    if not path.exists():
        tool = str(Path(python_of("data")).with_name("tpchgen-cli"))
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([tool, "csv", "-s", f"{scale:g}", "-T", "lineitem", "-o", folder, "--quiet"], check=True)
    return path


def _copy(database: Database, table: str, rows: Path) -> None:
    if database.engine == "postgres":
        with closing(database.server.connect()) as connection, connection.cursor() as cursor, rows.open() as file:
            cursor.copy_expert(f"copy {table} from stdin (format csv, header)", file)
        return
    load = (
        f"set unique_checks = 0; load data local infile '{rows}' into table {table} "
        "fields terminated by ',' optionally enclosed by '\"' ignore 1 lines"
    )
    place = database.place(table)
    subprocess.run([*place.mariadb(), "--local-infile=1", "-e", load], env=place.environment(), check=True)
