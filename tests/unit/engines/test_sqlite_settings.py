"""SQLite is set to what reading needs, and a name that is none is an error and no text."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from include.etl.engines.base import Query
from include.etl.engines.sqlite import SqliteEngine
from include.etl.engines.sqlite_settings import SETTINGS, with_names
from include.etl.errors import ConfigurationError


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteEngine:
    with contextlib.closing(sqlite3.connect(tmp_path / "clinic.db")) as connection:
        connection.execute('create table visits (id integer, "the ""note""" text, `tick` text)')
        connection.execute("insert into visits values (1, 'a', 'B')")
        connection.commit()
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "clinic.db")}))
    return SqliteEngine("clinic")


def read(engine: SqliteEngine, sql: str, **params: Any) -> list[dict[str, Any]]:
    with engine.session() as session:
        return [row for batch in session.stream(Query(sql, params)).batches for row in batch.to_pylist()]


@pytest.mark.parametrize(
    "sql",
    [
        'select id, "not_there" from visits',
        'select id from visits where tick = "B"',
        'select "id" from visits order by "nothing"',
        'with v as (select "gone" from visits) select * from v',
    ],
)
def test_a_name_in_double_quotes_that_is_no_column_is_an_error(engine: SqliteEngine, sql: str) -> None:
    """SQLite takes it for a text, in every row: a column that was renamed is published as its own former name."""
    with pytest.raises(ConfigurationError, match="no such column"):
        read(engine, sql)


def test_names_and_texts_stay_what_they_are(engine: SqliteEngine) -> None:
    sql = (
        'select "id" as "n `o", "the ""note""", \'x "y"\' as t from "visits" v -- "z"\n'
        'where "v"."id" >= :start and [tick] = \'B\' order by "n `o"'
    )
    assert read(engine, sql, start=1) == [{"n `o": 1, 'the "note"': "a", "t": 'x "y"'}]
    assert with_names('select \'"a"\', /* "b" */ `c`, [d"e]') == 'select \'"a"\', /* "b" */ `c`, [d"e]'


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: one.name)
def test_every_setting_is_set_and_read_back(
    engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch, setting: Any
) -> None:

    class Deaf(sqlite3.Connection):
        """A build that ignores the pragma."""

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            ignored = sql == f"pragma {setting.name} = {setting.value}"
            return super().execute(f"pragma {setting.name} = {1 - setting.value}" if ignored else sql, *values)

    def other() -> sqlite3.Connection:
        return sqlite3.connect(engine._uri(), uri=True, isolation_level=None, factory=Deaf)

    with engine.session() as session:
        assert session.connection.execute(f"pragma {setting.name}").fetchone() == (setting.value,)
    monkeypatch.setattr(engine, "connect", other)
    with pytest.raises(ConfigurationError, match=f"pragma {setting.name} is .* cannot be set to"), engine.session():
        pass


def test_like_is_as_sqlite_is_documented(engine: SqliteEngine) -> None:
    assert read(engine, "select id from visits where tick like 'b'") == [{"id": 1}]


OPTIONS = [({}, 0), ({"immutable": "1"}, 1), ({"nolock": "1"}, 1), ({"nolock": "0"}, 0)]


@pytest.mark.parametrize(("extra", "told"), OPTIONS)
def test_a_file_that_is_read_without_locks_is_told(
    engine: SqliteEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: dict[str, str], told: int
) -> None:
    given = {"conn_type": "sqlite", "host": str(tmp_path / "clinic.db"), "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps(given))
    with engine.session() as session:
        assert len([one for one in session.unpinned if "without locks" in one]) == told
