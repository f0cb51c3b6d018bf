"""Where rows come from on SQL Server and Oracle, by what their catalogues answer, and on SQLite by its own."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlglot

from include.etl.engines import mssql_origins, oracle_origins
from include.etl.engines.base import Query
from include.etl.engines.sqlite import SqliteEngine
from include.etl.errors import ConfigurationError, TransientError
from tests.unit.engines.mssql_doubles import ID, engine, fake, rows_of

Rows = list[tuple[Any, ...]]
JOINED = "create view his.Joined as select v.* from dbo.visits v join wards w on w.id = v.ward"
VISITS = ("dbo", "Visits", "U", None, None, 0)


def sql_server(
    objects: Mapping[str, tuple[Any, ...]],
    *,
    permitted: int = 1,
    unmasked: int = 1,
    policies: Rows | None = None,
    masked: Rows | None = None,
) -> Callable[[str], Rows]:
    """A catalogue; every question is SQL of the database as far as a parser can tell."""

    def ask(sql: str) -> Rows:
        assert len(sqlglot.parse(sql, dialect="tsql")) == 1
        if "security_policies p" in sql:
            return policies or []
        if "masked_columns" in sql:
            return masked or []
        if "has_perms_by_name" in sql:
            return [(permitted, unmasked)]
        found = [row for name, row in objects.items() if f"N'{name}'\nand" in sql]
        return found[:1]

    return ask


def read(sql: str, objects: Mapping[str, tuple[Any, ...]], apply: bool = False, **more: Any) -> Any:
    return mssql_origins.origins(sql_server(objects, **more), sql, "moh-etl", "apply" if apply else "refuse")


def test_sql_server_tables_are_followed_through_views_and_synonyms() -> None:
    found = read(
        "with x as (select * from Latest) select * from x",
        {
            "visits": VISITS,
            "wards": ("his", "Wards", "U", None, None, 0),
            "latest": ("his", "Latest", "SN", None, "[his].[Joined]", 0),
            "joined": ("his", "Joined", "V", JOINED, None, 0),
        },
    )
    assert found.relations == ["his.Latest", "his.Joined", "dbo.Visits", "his.Wards"]
    assert ["dbo.visits and his.wards" in one for one in found.caveats] == [True]
    assert (found.elsewhere, found.unchecked, found.hidden) == ("", [], [])


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("dbo", "V", "SN", None, "[archive].[his].[dbo].[Visits]", 0), "a table of a linked server"),
        (("dbo", "V", "U", None, None, 1), "dbo.V is an external table"),
        (("dbo", "V", "V", "create view V as select * from openquery(archive, 'select 1 as a')", None, 0), "OPENQUERY"),
        (("dbo", "V", "V", "create view V as select * from archive.his.dbo.Visits", None, 0), "of a linked server"),
    ],
)
def test_sql_server_rows_of_other_servers_are_told(row: tuple[Any, ...], told: str) -> None:
    assert told in read("select * from v", {"v": row}).elsewhere


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("dbo", "V", "V", None, None, 0), "grant it VIEW DEFINITION"),
        (("dbo", "V", "V", "create view V as this is no SQL (", None, 0), "cannot be read"),
        (None, "shows this login no table v"),
    ],
)
def test_sql_server_what_is_not_shown_is_told(row: tuple[Any, ...] | None, told: str) -> None:
    found = read("select * from v", {"v": row} if row else {})
    assert [one for one in found.caveats if told in one]


def test_sql_server_policies_and_masks_are_refused_unless_they_are_wanted() -> None:
    policies = {"policies": [("dbo", "Visits")]}
    with pytest.raises(ConfigurationError, match=r"filters dbo.Visits.*extract.row_security: apply"):
        read("select id from visits", {"visits": VISITS}, **policies)
    assert "filters dbo.Visits" in read("select id from visits", {"visits": VISITS}, apply=True, **policies).hidden[0]
    assert not read("select id from other", {"other": ("dbo", "Other", "U", None, None, 0)}, **policies).hidden
    masks: dict[str, Any] = {"masked": [("dbo", "Visits", "Phone")], "unmasked": 0}
    view = {"v": ("dbo", "V", "V", "create view V as select id, phone as p from visits", None, 0), "visits": VISITS}
    for sql in ("select * from visits", "select id, phone from visits", "select p from v"):
        with pytest.raises(ConfigurationError, match=r"dbo.Visits: this login is shown masks .* of Phone"):
            read(sql, view, **masks)
    assert not read("select id from visits", {"visits": VISITS}, **masks).hidden
    assert not read("select * from visits", {"visits": VISITS}, masked=masks["masked"], unmasked=1).hidden


def test_sql_server_what_a_login_may_not_see_is_not_taken_for_nothing() -> None:
    assert "grant it VIEW DEFINITION" in read("select id from visits", {"visits": VISITS}, permitted=0).unchecked[0]
    (other,) = read("select id from archive.dbo.visits", {"visits": VISITS}).unchecked
    assert other.startswith("archive.dbo.Visits lies in another database")

    def refuses(sql: str) -> Rows:
        raise ConfigurationError("sys.objects is not supported")

    (told,) = mssql_origins.origins(refuses, "select id from visits", "moh-etl", "refuse").unchecked
    assert "does not tell where rows come from" in told


@pytest.mark.parametrize("after", [4711, 4712, None])
def test_sql_server_a_table_that_is_replaced_while_it_is_read_is_no_result(
    kind: str, monkeypatch: pytest.MonkeyPatch, clinic: None, after: int | None
) -> None:
    server = fake(kind, monkeypatch, [ID], rows_of(kind))
    server.answers = {
        "security_policies p": [],
        "masked_columns": [],
        "has_perms_by_name": [(1, 1)],
        "sys.objects": [VISITS],
        "select object_id(": [(4711,)],
    }
    with engine().session() as session:
        assert session.origins(Query("select id from visits")).relations == ["dbo.Visits"]
        batches = session.stream(Query("select id from visits")).batches
        next(batches)
        server.answers["select object_id("] = [(after,)]
        if after == 4711:
            assert sum(batch.num_rows for batch in batches) == 0
        else:
            with pytest.raises(TransientError, match="replaced by another one"):
                list(batches)


def oracle(answers: Mapping[str, Mapping[tuple[Any, Any], Rows]]) -> Callable[[str, Mapping[str, Any]], Rows]:
    """A catalogue: view -> owner and name -> rows."""

    def ask(sql: str, values: Mapping[str, Any]) -> Rows:
        assert len(sqlglot.parse(sql, dialect="oracle")) == 1
        assert set(values) == {"owner", "name"}
        found = next(rows for view, rows in answers.items() if view in sql)
        if isinstance(found, Exception):
            raise found
        return found.get((values["owner"], values["name"]), [])

    return ask


VIEWS = (
    "all_objects",
    "all_synonyms",
    "all_views",
    "all_external",
    "session_privs",
    "all_policies",
    "redaction_columns",
)
NOTHING: Any = {view: {} for view in VIEWS}
TABLE = {(None, "VISITS"): [("HIS", "TABLE")], ("HIS", "VISITS"): [("HIS", "TABLE")]}


def read_oracle(sql: str, apply: bool = False, **answers: Any) -> Any:
    return oracle_origins.origins(oracle({**NOTHING, **answers}), sql, "moh-etl", "apply" if apply else "refuse")


def test_oracle_tables_are_followed_through_views_and_synonyms() -> None:
    found = read_oracle(
        "select * from latest",
        all_objects={
            (None, "LATEST"): [("PUBLIC", "SYNONYM")],
            ("HIS", "JOINED"): [("HIS", "VIEW")],
            ("HIS", "VISITS"): [("HIS", "TABLE")],
            ("ADM", "WARDS"): [("ADM", "MATERIALIZED VIEW"), ("ADM", "TABLE")],
        },
        all_synonyms={("PUBLIC", "LATEST"): [("HIS", "JOINED", None)]},
        all_views={
            ("HIS", "JOINED"): [("select v.id from visits v, adm.wards w where w.mail like '%@x' and v.w = w.w",)]
        },
    )
    assert found.relations == ["HIS.JOINED", "HIS.VISITS", "ADM.WARDS"]
    assert found.elsewhere == ""
    joined, refreshed = found.caveats
    assert "HIS.VISITS and ADM.WARDS" in joined
    assert "ADM.WARDS is a materialised view" in refreshed


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (
            {
                "all_objects": {(None, "V"): [("HIS", "SYNONYM")]},
                "all_synonyms": {("HIS", "V"): [("HIS", "VISITS", "ARCHIVE.HIS")]},
            },
            "HIS.V reads over the database link ARCHIVE.HIS",
        ),
        (
            {
                "all_objects": {(None, "V"): [("HIS", "VIEW")]},
                "all_views": {("HIS", "V"): [("select * from visits@archive",)]},
            },
            "view HIS.V reads over the database link",
        ),
        (
            {
                "all_objects": {(None, "V"): [("HIS", "TABLE")]},
                "all_external": {("HIS", "V"): [("ORACLE_LOADER",)]},
            },
            "HIS.V is an external table (ORACLE_LOADER)",
        ),
    ],
)
def test_oracle_rows_of_other_databases_are_told(answers: Any, told: str) -> None:
    assert told in read_oracle("select * from v", **answers).elsewhere


def test_oracle_policies_and_redaction_are_refused_unless_they_are_wanted() -> None:
    policies = {("HIS", "VISITS"): [("WARD_ONLY",)]}
    with pytest.raises(ConfigurationError, match=r"filters HIS.VISITS.*EXEMPT ACCESS POLICY"):
        read_oracle("select * from visits", all_objects=TABLE, all_policies=policies)
    assert read_oracle("select * from visits", apply=True, all_objects=TABLE, all_policies=policies).hidden
    exempt = {(None, None): [("EXEMPT ACCESS POLICY",)]}
    assert not read_oracle(
        "select * from visits", all_objects=TABLE, all_policies=policies, session_privs=exempt
    ).hidden
    redacted = {("HIS", "VISITS"): [("PHONE",)]}
    with pytest.raises(ConfigurationError, match=r"HIS.VISITS: this account is shown other values than those of PHONE"):
        read_oracle("select * from visits", all_objects=TABLE, redaction_columns=redacted)
    unseen = ConfigurationError("ORA-00942: table or view does not exist")
    (told,) = read_oracle("select * from visits", all_objects=TABLE, redaction_columns=unseen).unchecked
    assert "grant it select on sys.redaction_columns" in told
    exempt = {(None, None): [("EXEMPT REDACTION POLICY",)]}
    found = read_oracle("select * from visits", all_objects=TABLE, redaction_columns=unseen, session_privs=exempt)
    assert found.unchecked == []


def test_sqlite_by_its_own_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        connection.execute("create table Visits (id integer, ward integer)")
        connection.execute("create table wards (id integer)")
        connection.execute("create view v as select visits.id from Visits join wards on wards.id = ward")
        connection.execute("create view plain as select id from visits union all select id from wards")
        connection.execute("create virtual table notes using fts5(note)")
        connection.commit()
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "clinic.db")}))
    with SqliteEngine("clinic").session() as session:
        joined = session.origins(Query("select * from v"))
        assert joined.relations == ["main.v", "main.Visits", "main.wards"]
        assert ["main.visits and main.wards" in one for one in joined.caveats] == [True]
        plain = session.origins(Query("with x as (select * from plain) select * from x"))
        assert (plain.relations, plain.caveats) == (["main.plain", "main.Visits", "main.wards"], [])
        assert session.origins(Query("select note from notes")).elsewhere == ""


def test_sqlite_tables_that_a_module_makes_up_are_told() -> None:
    from include.etl.engines.sqlite_origins import origins

    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("pragma writable_schema = on")
        connection.execute("create table t (a)")
        made = "CREATE VIRTUAL TABLE t USING csv(filename='visits.csv')"
        connection.execute("update sqlite_master set sql = ? where name = 't'", (made,))
        assert "t is a virtual table (module csv)" in origins(connection, "select a from t").elsewhere
