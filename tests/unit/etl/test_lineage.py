"""Names of tables for OpenLineage: what a query reads, in full, on each kind of database."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from include.etl import lineage
from include.etl.config import Source
from include.etl.engines.base import Query
from include.etl.handover import Window
from include.etl.query import tables

WINDOW = Window.model_validate({"mode": "full", "end": "2025-01-01T00:00:00Z"})


def a_source(table: str) -> Source:
    return Source.model_validate(
        {
            "source": "visits",
            "description": "Visits",
            "conn_id": "clinic",
            "table": table,
            "schedule": {"full": "0 2 * * *"},
            "output": {"formats": ["parquet"]},
        }
    )


@pytest.mark.parametrize(
    ("connection", "table", "namespace", "name"),
    [
        (
            {"conn_type": "postgres", "host": "db", "schema": "hmis"},
            "visits",
            "postgres://db:5432",
            "hmis.public.visits",
        ),
        ({"conn_type": "postgres", "host": "db", "schema": "hmis", "port": 6}, "s.v", "postgres://db:6", "hmis.s.v"),
        ({"conn_type": "mysql", "host": "db", "schema": "hmis"}, "visits", "mysql://db:3306", "hmis.visits"),
        ({"conn_type": "mysql", "host": "db", "schema": "hmis"}, "other.visits", "mysql://db:3306", "other.visits"),
        ({"conn_type": "sqlite", "host": "/srv/clinic.db"}, "visits", "sqlite://clinic", "visits"),
        (
            {"conn_type": "postgres", "host": "u:hidden@db", "schema": "hmis", "password": "hidden"},
            "visits",
            "postgres://db:5432",
            "hmis.public.visits",
        ),
    ],
)
def test_tables_have_their_full_names(
    monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], table: str, namespace: str, name: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps(connection))
    published = cast(Any, type("Published", (), {"window": WINDOW}))
    assert lineage._tables(a_source(table), published) == (namespace, [name])


def test_a_query_reads_its_tables_but_not_its_with_clauses() -> None:
    sql = "WITH own AS (SELECT * FROM s.a) SELECT * FROM own JOIN b ON 1 = 1 JOIN s.a AS again ON 1 = 1"
    assert sorted(tables(Query(sql), "postgres")) == [["b"], ["s", "a"]]


def test_a_load_that_failed_has_no_lineage() -> None:
    operator = lineage.LoadOperator(task_id="load", source=a_source("visits"), python_callable=dict)
    assert operator.get_openlineage_facets_on_complete(None) is None
    (asset,) = operator.outlets
    assert (asset.name, asset.uri) == ("visits", "etl://visits/")
