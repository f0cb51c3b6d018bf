"""Keys that the source takes for one though they are spelled in two ways: one current row, and none marked as deleted.

On real servers with an account that may only read. Where equality cannot be done as the server does it, merging and
marking are refused before a row is read; where another spelling is another key to the server, it is one here too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from include.etl.errors import ConfigurationError, DataError
from tests.database_server import DatabaseServer
from tests.integration.conftest import Project

SOURCE = """
source: visits
description: Visits
conn_id: clinic
{table}
primary_key: [code]
cursor: {{column: updated_at}}
schedule: {{incremental: "0 2 * * *", full: "0 3 * * 0"}}
output: {{formats: [parquet]}}
transform: {{trim: false}}
load: {load}
deletes: {deletes}
max_deletes: 100%
"""
DAY = {"start": "2024-01-01", "end": "2024-01-02T00:00:00Z"}
NEXT_DAY = {"start": "2024-01-02T00:00:00Z", "end": "2024-01-03T00:00:00Z"}
ICU = "(provider=icu, locale='und-u-ks-level2', deterministic=false)"


@dataclass
class Clinic:
    """A table `visits` whose key is a text, in one of the databases."""

    project: Project
    server: DatabaseServer | None

    def execute(self, sql: str) -> None:
        self.server.execute(sql) if self.server else self.project.execute(sql)

    def create(self, kind: str) -> None:
        self.execute("DROP TABLE IF EXISTS visits")
        if self.server and self.server.conn_type == "postgres":
            self.execute("CREATE EXTENSION IF NOT EXISTS citext")
            self.execute(f"CREATE COLLATION IF NOT EXISTS any_case {ICU}")
        self.execute(f"CREATE TABLE visits (code {kind} PRIMARY KEY, note VARCHAR(9), updated_at TIMESTAMP NULL)")
        if self.server:
            self.execute("GRANT SELECT ON visits TO key_reader")
        self.put("old", "2024-01-01 08:00:00", "zz")

    def put(self, note: str, at: str, *codes: str) -> None:
        for code in codes:
            self.execute(f"INSERT INTO visits VALUES ('{code}', '{note}', '{at}')")

    def respell(self, code: str, other: str) -> None:
        self.execute(
            f"UPDATE visits SET code = '{other}', note = 'new', updated_at = '2024-01-02 08:00:00' "
            f"WHERE code = '{code}'"
        )

    def configure(self, load: str, deletes: str = "ignore", table: str = "table: visits") -> None:
        self.project.configure(SOURCE.format(load=load, deletes=deletes, table=table))

    def rows(self, columns: str = "code, note") -> list[tuple[Any, ...]]:
        return [row for row in self.project.rows(columns) if row[0].strip() != "zz"]


def clinic_on(project: Project, server: DatabaseServer | None, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    """The database, read by an account that may read this table and nothing else."""
    if server:
        if server.conn_type == "postgres":
            server.execute(
                "DO $$ BEGIN CREATE ROLE key_reader LOGIN PASSWORD 'plain'; EXCEPTION WHEN OTHERS THEN END $$"
            )
        else:
            server.execute("CREATE USER IF NOT EXISTS key_reader IDENTIFIED BY 'plain'")
        reader = replace(server, user="key_reader", password="plain")
        monkeypatch.setenv("AIRFLOW_CONN_CLINIC", reader.airflow_connection)
    return Clinic(project, server)


def _on(name: str, *cases: tuple[str, ...]) -> list[Any]:
    marks = {"postgres": [pytest.mark.postgres], "mariadb": [pytest.mark.mariadb]}.get(name, [])
    return [pytest.param(name, *case, marks=marks, id=f"{name} {case[0]} {case[1]!r} {case[2]!r}") for case in cases]


@pytest.fixture
def clinic(project: Project, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Clinic:
    name = request.getfixturevalue("name")
    server = None if name == "sqlite" else request.getfixturevalue(f"{name}_server")
    return clinic_on(project, server, monkeypatch)


ONE_KEY = [
    *_on("sqlite", ("TEXT COLLATE NOCASE", "abc", "ABC"), ("TEXT COLLATE RTRIM", "abc", "abc  ")),
    *_on("postgres", ("CITEXT", "abc", "ABC"), ("CHAR(5)", "abc", "abc ")),
    *_on("mariadb", ("VARCHAR(9) CHARACTER SET utf8mb4", "abc", "ABC"), ("VARCHAR(9)", "abc", "abc ")),
    *_on("mariadb", ("VARCHAR(9) CHARACTER SET latin1", "a-1", "A-1")),
    *_on("mariadb", ("VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", "ж", "ж ")),
    *_on("mysql", ("VARCHAR(9)", "abc", "ABC"), ("VARCHAR(9) COLLATE utf8mb4_general_ci", "abc", "abc ")),
]


@pytest.mark.parametrize(("name", "kind", "code", "other"), ONE_KEY)
def test_another_spelling_is_the_same_row(clinic: Clinic, name: str, kind: str, code: str, other: str) -> None:
    clinic.create(kind)
    clinic.put("old", "2024-01-01 08:00:00", code)
    clinic.configure("merge")
    clinic.project.run(**DAY)
    clinic.respell(code, other)
    clinic.project.run(**NEXT_DAY)
    ((found, note),) = clinic.rows()
    assert (found.rstrip(), note) == (other.rstrip(), "new")
    clinic.configure("append", "mark")
    clinic.project.run(mode="full")
    clinic.respell(other, code)
    assert clinic.project.run(mode="full").manifest["deleted"] == 0
    assert [(one.rstrip(), gone) for one, gone in clinic.rows("code, _deleted_at")] == [(code.rstrip(), None)]


TWO_KEYS = [
    *_on("sqlite", ("TEXT", "abc", "ABC"), ("TEXT", "abc", "abc "), ("TEXT COLLATE NOCASE", "é", "É")),
    *_on("postgres", ("TEXT", "abc", "ABC"), ("VARCHAR(9)", "abc", "abc "), ("TEXT", "é", "É")),
    *_on("mariadb", ("VARCHAR(9) COLLATE utf8mb4_nopad_bin", "abc", "abc ")),
    *_on("mariadb", ("VARCHAR(9) COLLATE utf8mb4_bin", "é", "É")),
    *_on("mysql", ("VARCHAR(9)", "abc", "abc "), ("VARCHAR(9) COLLATE utf8mb4_0900_bin", "abc", "ABC")),
]


@pytest.mark.parametrize(("name", "kind", "code", "other"), TWO_KEYS)
def test_another_spelling_is_another_row(clinic: Clinic, name: str, kind: str, code: str, other: str) -> None:
    clinic.create(kind)
    clinic.configure("merge", "mark")
    clinic.put("old", "2024-01-01 08:00:00", code, other)
    clinic.project.run(mode="full")
    assert [found for found, _ in clinic.rows()] == sorted([code, other])
    clinic.execute(f"DELETE FROM visits WHERE code = '{code}'")
    assert clinic.project.run(mode="full").manifest["deleted"] == 1


REFUSED = [
    *_on("postgres", ("TEXT COLLATE any_case", "abc", "not deterministic"), ("NUMERIC", "1.0", "1.0 and 1.00")),
    *_on("postgres", ("INTERVAL", "1 day", "several ways")),
    *_on("mariadb", ("VARCHAR(9) COLLATE utf8mb4_czech_ci", "abc", "utf8mb4_czech_ci")),
    *_on("mysql", ("VARCHAR(9) COLLATE utf8mb4_da_0900_ai_ci", "abc", "utf8mb4_da_0900_ai_ci")),
]


@pytest.mark.parametrize(("name", "kind", "code", "reason"), REFUSED)
def test_what_cannot_be_told_is_refused_before_reading(
    clinic: Clinic,
    name: str,
    kind: str,
    code: str,
    reason: str,
) -> None:
    clinic.create("VARCHAR(9)")
    clinic.execute("DROP TABLE visits")
    clinic.execute(f"CREATE TABLE visits (code {kind} PRIMARY KEY, note VARCHAR(9), updated_at TIMESTAMP NULL)")
    clinic.execute("GRANT SELECT ON visits TO key_reader")
    clinic.put("old", "2024-01-01 08:00:00", code)
    clinic.configure("append" if reason == "several ways" else "merge", "mark")
    with pytest.raises(ConfigurationError, match=rf"'visits': (load: merge|deletes: mark).*'code'.*{reason}.*select"):
        clinic.project.run(**DAY)
    assert not list((clinic.project.folder / "data").rglob("*.parquet"))
    clinic.configure("append")
    assert clinic.project.run(**DAY).publication.rows.published == 1


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        pytest.param("mariadb", "VARCHAR(9) CHARACTER SET utf8mb4", "é", marks=pytest.mark.mariadb),
        pytest.param("mysql", "VARCHAR(9)", "ж"),
        pytest.param("postgres", "CITEXT", "ß", marks=pytest.mark.postgres),
    ],
)
def test_letters_of_which_nothing_is_known_are_refused(clinic: Clinic, name: str, kind: str, code: str) -> None:
    clinic.create(kind)
    clinic.configure("merge")
    clinic.project.run(**DAY)
    before = clinic.project.files()
    clinic.put("new", "2024-01-02 08:00:00", code)
    with pytest.raises(DataError, match="1 rows have other than plain ASCII characters in column 'code'") as error:
        clinic.project.run(**NEXT_DAY)
    assert code not in str(error.value)
    assert clinic.project.files() == before


WAYS_OUT = [
    pytest.param("postgres", "TEXT COLLATE any_case", 'lower(code) COLLATE "C"', marks=pytest.mark.postgres),
    pytest.param("mariadb", "VARCHAR(9)", "lower(code) COLLATE utf8mb4_bin", marks=pytest.mark.mariadb),
    pytest.param("mysql", "VARCHAR(9) COLLATE utf8mb4_da_0900_ai_ci", "lower(code) COLLATE utf8mb4_bin"),
    pytest.param("sqlite", "TEXT COLLATE NOCASE", "lower(code)"),
]


@pytest.mark.parametrize(("name", "kind", "canonical"), WAYS_OUT)
def test_a_canonical_form_in_the_query_is_the_way_out(clinic: Clinic, name: str, kind: str, canonical: str) -> None:
    """The collation is that of the query's column, not of the table's."""
    clinic.create(kind)
    clinic.put("old", "2024-01-01 08:00:00", "Ébc")
    folder = clinic.project.folder / "sql"
    folder.mkdir()
    (folder / "visits.sql").write_text(
        f"SELECT {canonical} AS code, note, updated_at FROM visits WHERE {{{{ window('updated_at') }}}}"
    )
    clinic.configure("merge", table="query: visits.sql")
    clinic.project.run(**DAY)
    clinic.respell("Ébc", "ÉBC")
    clinic.project.run(**NEXT_DAY)
    assert [note for _, note in clinic.rows()] == ["new"]
