"""What looking at the cursor column costs a live source: seeks in an index, or one pass, and only over few rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from include.etl import cursor_check
from include.etl.engines.base import Query, Session
from include.etl.errors import DataError
from include.etl.sources import load_source
from tests.integration.conftest import Project
from tests.integration.test_unreadable_cursors import MARIADB, MYSQL, POSTGRES, SERVERS, SOURCE, reader
from tests.servers import DatabaseServer

ROWS = 40
BAD = {POSTGRES: "'infinity'", MARIADB: "'2024-00-10'", MYSQL: "'2024-00-10'"}
WAYS = {
    "table": "table: dated",
    "query": "SELECT v.id, v.c FROM dated v WHERE {{ window('v.c') }}",
    "view": "table: seen",
    "joined view": "table: paired",
    "join": "SELECT v.id, v.c FROM dated v JOIN partner w ON w.id = v.id WHERE {{ window('v.c') }}",
    "expression": "SELECT v.id, coalesce(v.c, v.c) AS c FROM dated v WHERE {{ window('v.c') }}",
    "subquery": "SELECT q.id, q.c FROM (SELECT id, max(c) AS c FROM dated GROUP BY id) q WHERE {{ window('q.c') }}",
}
BY_INDEX = ("table", "query")

Clinic = Callable[..., Project]


@pytest.fixture
def clinic(project: Project, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Clinic:
    """Two tables, and views of them, whose cursor leads an index."""
    (project.folder / "sql").mkdir()

    def made(name: str, views: bool = True) -> Project:
        server: DatabaseServer = request.getfixturevalue(name)
        kind = "timestamp" if name == POSTGRES else "datetime"
        drops = [("view", "paired"), ("view", "seen"), ("table", "dated"), ("table", "partner")]
        cleared = [f"drop {what} if exists {one}" for what, one in drops]
        request.addfinalizer(lambda: [server.execute(sql) for sql in cleared])
        for sql in [
            *cleared,
            f"create table dated (id int primary key, c {kind})",
            "create index dated_c on dated (c)",
            "create table partner (id int primary key)",
            "create view seen as select id, c from dated",
            "create view paired as select v.id, v.c from dated v join partner w on w.id = v.id",
        ]:
            server.execute(sql)
        with contextlib.closing(server.connect()) as connection, connection.cursor() as cursor:
            if server.conn_type == "mysql":
                cursor.execute("set sql_mode = 'ALLOW_INVALID_DATES'")
            values = ", ".join(f"({number}, '2024-01-05 08:00:00')" for number in range(2, ROWS + 1))
            cursor.execute(f"insert into dated values (1, {BAD[name]}), {values}")
            cursor.execute(f"insert into partner values {', '.join(f'({number})' for number in range(1, ROWS + 1))}")
        account = reader(server)
        if views and server.conn_type == "mysql":
            server.execute(f"grant show view on {server.database}.* to {account.user}")
            request.addfinalizer(lambda: server.execute(f"revoke show view on {server.database}.* from {account.user}"))
        monkeypatch.setenv("AIRFLOW_CONN_CLINIC", account.airflow_connection)
        return project

    return made


def asked(project: Project, monkeypatch: pytest.MonkeyPatch, way: str, more: str = "") -> tuple[Any, list[str]]:
    """What is said of the column, and the queries that read rows for it, but for counts of few lines of a table."""
    query = WAYS[way]
    (project.folder / "sql" / "visits.sql").write_text(query)
    origin = query if query.startswith("table:") else "query: visits.sql"
    project.configure(SOURCE.format(origin=origin, cursor="lookback: 0s") + more)
    sent: list[str] = []
    single_row = Session.single_row

    def recorded(self: Session, query: Query) -> list[Any]:
        if "case when" in query.sql.lower() or " _q where " in " ".join(query.sql.split()):
            sent.append(query.sql)
        return single_row(self, query)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "single_row", recorded)
        try:
            return cursor_check.check(load_source("visits")), sent
        except DataError as error:
            return str(error), sent


@pytest.mark.parametrize("name", SERVERS)
def test_a_column_is_looked_at_by_its_index_or_once_and_not_where_that_is_dear(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    project = clinic(name)
    for way in WAYS:
        said, sent = asked(project, monkeypatch, way)
        assert "1 rows with" in str(said), way
        assert len(sent) == (3 if way in BY_INDEX else 1), way  # two kinds, and the future
        assert all(" where " in sql for sql in sent) == (way in BY_INDEX)
    for way in ("view", "join"):
        checked, sent = asked(project, monkeypatch, way, "verify: {count: false}\n")
        assert sent == []
        assert "verify.count is false" in checked.doubts[0]
    for few in (2 * ROWS - 1, 2 * ROWS):  # tables of a join count together
        monkeypatch.setattr(cursor_check, "FEW", few)
        assert len(asked(project, monkeypatch, "joined view")[1]) == few // (2 * ROWS)
    monkeypatch.setattr(cursor_check, "FEW", ROWS - 1)
    for way in [way for way in WAYS if way not in BY_INDEX]:
        checked, sent = asked(project, monkeypatch, way)
        assert sent == []
        assert "not looked for" in checked.doubts[0]
        assert "it is too large to read all of it" in checked.doubts[0]


@pytest.mark.mariadb
def test_a_view_that_the_account_cannot_look_through_is_not_evaluated(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, sent = asked(clinic(MARIADB, views=False), monkeypatch, "view")
    assert sent == []
    assert "too large" in checked.doubts[0]


@pytest.mark.postgres
@pytest.mark.parametrize("far", ["elsewhere", "unchecked"])
def test_what_another_server_keeps_is_not_small(clinic: Clinic, monkeypatch: pytest.MonkeyPatch, far: str) -> None:
    from include.etl.engines.postgres import PostgresSession

    project, origins = clinic(POSTGRES), PostgresSession.origins
    why = "another server keeps it"
    told = {"elsewhere": why, "unchecked": [why]}[far]
    monkeypatch.setattr(PostgresSession, "origins", lambda *given: origins(*given)._replace(**{far: told}))
    checked, sent = asked(project, monkeypatch, "view")
    assert sent == []
    assert f"it may be too large ({why})" in checked.doubts[0]


def test_a_view_of_sqlite_is_looked_at(project: Project) -> None:
    project.execute("CREATE VIEW seen AS SELECT visit_id AS id, updated_at AS c FROM visits")
    project.execute("INSERT INTO visits (visit_id, updated_at) VALUES (1, 7)")
    project.configure(SOURCE.format(origin="table: seen", cursor="unreadable: skip"))
    checked = cursor_check.check(load_source("visits"))
    assert "1 rows with numbers, BLOBs" in checked.caveats[0]
    assert checked.doubts == []
