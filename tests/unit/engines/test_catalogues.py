"""What SQL Server's and Oracle's catalogues are asked, and what is made of their answers; a double only for the socket.

Answers have the form that Microsoft's and Oracle's documentation gives them; MySQL's histograms too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlglot

from include.etl import slices
from include.etl.engines import mssql_catalog, oracle_catalog
from include.etl.engines.base import Numbering, Statistics, Step
from include.etl.engines.mysql_catalog import mariadb_steps, mysql_steps
from include.etl.errors import ConfigurationError, TransientError

Answers = dict[str, Any]


def asked(answers: Answers, dialect: str) -> tuple[Callable[..., Any], list[str]]:
    """Answers by a word of the question, which must be one SELECT of the dialect; an exception is raised."""
    sent: list[str] = []

    def ask(sql: str, values: dict[str, Any] | None = None) -> Any:
        (parsed,) = sqlglot.parse(sql, dialect=dialect)
        assert isinstance(parsed, sqlglot.exp.Select)
        for name in values or {}:
            assert f":{name}" in sql
        sent.append(sql)
        found = next(answer for key, answer in answers.items() if key in sql)
        if isinstance(found, Exception):
            raise found
        return found

    return ask, sent


def mssql(kind: str, **changes: Any) -> Answers:
    return {
        "sys.partitions": [(1000,)],
        "sys.index_columns": [("id",), ("at",)],
        "type_name": [(kind, 2)],
        "dm_db_stats_histogram": [],
        "min(": [(None, None)],
        **{key.replace("_", " "): value for key, value in changes.items()},
    }


def test_sql_servers_histogram() -> None:
    answers = mssql("int") | {
        "dm_db_stats_histogram": [(None, 0.0, 100.0), ("1", 0.0, 1.0), ("500", 400.0, 99.0), ("900", 399.0, 1.0)]
    }
    ask, sent = asked(answers, "tsql")
    found = mssql_catalog.statistics(ask, "dbo.visits", "id")
    assert found == Statistics(
        1000, [Step(1, 0, 1), Step(500, 400, 99), Step(900, 399, 1)], 100.0, frozenset({"id", "at"})
    )
    assert "object_id(N'[dbo].[visits]')" in sent[0]
    assert "cast(h.range_high_key as bigint)" in sent[-1]
    assert [part.end for part in slices.cut("id", found, 500)] == ["499", None]


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        ("decimal", "1.50", Decimal("1.50")),
        ("date", "2024-02-29", date(2024, 2, 29)),
        ("datetime2", "2024-02-29T08:00:00.123456", datetime(2024, 2, 29, 8, 0, 0, 123456)),
        ("datetimeoffset", "2024-02-29T08:00:00", datetime(2024, 2, 29, 8, tzinfo=UTC)),
        ("nvarchar", "Zoë", "Zoë"),
        ("uniqueidentifier", "6F9619FF-8B86-D011-B42D-00C04FC964FF", "6F9619FF-8B86-D011-B42D-00C04FC964FF"),
    ],
)
def test_sql_servers_values(kind: str, written: str, value: Any) -> None:
    ask, _ = asked(mssql(kind) | {"dm_db_stats_histogram": [(written, 0.0, 1.0)]}, "tsql")
    assert mssql_catalog.statistics(ask, "visits", "at").steps == [Step(value, 0.0, 1.0)]


def test_sql_server_without_histogram_gives_the_ends_of_an_index() -> None:
    refused = ConfigurationError("The SELECT permission was denied")
    ask, sent = asked(
        mssql("date") | {"dm_db_stats_histogram": refused, "min(": [("2024-01-01", "2024-12-31")]}, "tsql"
    )
    found = mssql_catalog.statistics(ask, "visits", "at")
    assert found.steps == [Step(date(2024, 1, 1)), Step(date(2024, 12, 31), 1.0)]
    assert sent[-1].count("select") == 3
    ask, _ = asked(mssql("date") | {"dm_db_stats_histogram": refused, "sys.index_columns": []}, "tsql")
    assert mssql_catalog.statistics(ask, "visits", "at") == Statistics(1000, [], 0.0, frozenset())


def test_sql_server_tells_nothing_of_views_and_of_types_that_are_not_cut() -> None:
    ask, _ = asked(mssql("int") | {"sys.partitions": [(None,)]}, "tsql")
    assert mssql_catalog.statistics(ask, "a_view", "id") == Statistics()
    ask, _ = asked(mssql("varchar"), "tsql")
    assert mssql_catalog.statistics(ask, "visits", "id").steps == ()


def test_a_lost_connection_is_no_missing_grant() -> None:
    ask, _ = asked(mssql("int") | {"dm_db_stats_histogram": TransientError("gone")}, "tsql")
    with pytest.raises(TransientError):
        mssql_catalog.statistics(ask, "visits", "id")


def oracle(kind: str, nulls: int = 0) -> Answers:
    return {
        "all_tab_statistics": [(1000,)],
        "all_ind_columns": [("ID",), ("AT",)],
        "all_tab_columns": [(kind, nulls)],
        "all_tab_histograms": [],
        "min(": [(None, None)],
    }


def test_oracles_histograms() -> None:
    """Hybrid, as the documentation prints it; and none, which shows as the two ends."""
    hybrid = [("39", 2, 2), ("44", 66, 26), ("45", 120, 54)]
    ask, _ = asked(oracle("NUMBER") | {"all_tab_histograms": hybrid}, "oracle")
    found = oracle_catalog.statistics(ask, "CLINIC.VISITS", "ID")
    steps = [Step(Decimal(39), 0, 2), Step(Decimal(44), 38, 26), Step(Decimal(45), 0, 54)]
    assert found == Statistics(1000, steps, 0.0, frozenset({"ID", "AT"}))
    ask, _ = asked(oracle("NUMBER", nulls=500) | {"all_tab_histograms": [("1", 0, 0), ("1001", 1, 0)]}, "oracle")
    found = oracle_catalog.statistics(ask, "VISITS", "ID")
    assert [part.end for part in slices.cut("ID", found, 250)] == ["1", "501", None]


@pytest.mark.parametrize("kind", ["DATE", "TIMESTAMP(6)"])
def test_oracles_times_are_cut_between_the_ends_of_an_index(kind: str) -> None:
    ask, sent = asked(oracle(kind) | {"min(": [("2024-01-01T00:00:00", "2024-01-03T00:00:00")]}, "oracle")
    found = oracle_catalog.statistics(ask, "VISITS", "AT")
    assert [part.end for part in slices.cut("AT", found, 500)] == ["2024-01-02T00:00:00", None]
    assert 'select min("AT") from "VISITS"' in sent[-1]


def test_oracle_tells_nothing_of_views_and_of_types_that_are_not_cut() -> None:
    ask, _ = asked(oracle("NUMBER") | {"all_tab_statistics": [], "all_ind_columns": []}, "oracle")
    assert oracle_catalog.statistics(ask, "A_VIEW", "ID") == Statistics()
    for kind in ("VARCHAR2", "TIMESTAMP(6) WITH TIME ZONE"):
        ask, _ = asked(oracle(kind), "oracle")
        assert oracle_catalog.statistics(ask, "VISITS", "ID").steps == ()


def test_mysqls_histograms() -> None:
    singleton = {"buckets": [[1, 0.25], [2, 0.75], [3, 1]], "histogram-type": "singleton", "null-values": 0}
    assert mysql_steps(json.loads(json.dumps(singleton), parse_float=Decimal)) == [
        (1, 0, 0.25),
        (2, 0, 0.5),
        (3, 0, 0.25),
    ]
    high = {"buckets": [["2024-01-01", "2024-01-09", 0.25, 9], ["2024-01-10", "2024-03-01", 1.0, 40]]}
    assert mysql_steps(json.loads(json.dumps(high), parse_float=Decimal)) == [
        ("2024-01-01", 0, 0),
        ("2024-01-09", 0.25, 0),
        ("2024-01-10", 0, 0),
        ("2024-03-01", 0.75, 0),
    ]
    assert mysql_steps({"buckets": [["base64:type254:YQ==", Decimal(1)]]}) == []


def test_mariadbs_histogram() -> None:
    buckets = [{"start": "1", "size": 0.5, "ndv": 9}, {"start": "10", "size": 0.25, "ndv": 1}]
    last = {"start": "11", "end": "20", "size": 0.25, "ndv": 5}
    assert mariadb_steps({"histogram_hb": [*buckets, last]}) == [
        ("1", 0, 0),
        ("10", 0.5, 0.25),
        ("11", 0, 0),
        ("20", 0.25, 0),
    ]


@pytest.mark.parametrize(
    ("row", "sequence", "expected"),
    [
        ((True, 1, 4711, 0, None), [], Numbering("IDENTITY", 1, 4711)),
        ((True, -1, None, 0, None), [], Numbering("IDENTITY", -1)),
        ((False, None, None, 0, None), [], Numbering()),
        (
            (False, None, None, 7, "(NEXT VALUE FOR [dbo].[visit_ids])"),
            [(2, True, 40)],
            Numbering("sequence [dbo].[visit_ids]", 2, 40, cycles=True),
        ),
        (
            (False, None, None, 7, "(NEXT VALUE FOR [dbo].[visit_ids])"),
            [],
            Numbering("sequence [dbo].[visit_ids]", others=mssql_catalog.HIDDEN),
        ),
        ((False, None, None, 7, None), [], Numbering("a default", others=mssql_catalog.HIDDEN)),
        ((False, None, None, 7, "((0))"), [], Numbering()),
    ],
)
def test_what_numbers_a_column_of_sql_server(row: Any, sequence: Any, expected: Numbering) -> None:
    ask, sent = asked({"sys.sequences": sequence, "sys.columns": [row]}, "tsql")
    assert mssql_catalog.numbering(ask, "dbo.visits", "id") == expected
    assert "object_id(N'[dbo].[visits]')" in sent[0]
    assert mssql_catalog.numbering(asked({"sys.columns": []}, "tsql")[0], "dbo.view", "id") is None


@pytest.mark.parametrize(
    ("default", "sequence", "instances", "expected"),
    [
        ('"APP"."VISIT_IDS"."NEXTVAL"', [(1, "N", 20, "N", 41)], [(1,)], Numbering("sequence APP.VISIT_IDS", 1, 41)),
        (
            '"APP"."ISEQ$$_71"."NEXTVAL" ',
            [(1, "Y", 0, "N", 41)],
            [(1,)],
            Numbering("sequence APP.ISEQ$$_71", 1, 41, cycles=True),
        ),
        ("NULL", [], [(1,)], Numbering()),
        (None, [], [(1,)], Numbering()),
    ],
)
def test_what_numbers_a_column_of_oracle(default: Any, sequence: Any, instances: Any, expected: Numbering) -> None:
    answers = {"all_sequences": sequence, "gv$session": instances, "all_tab_columns": [(default,)]}
    assert oracle_catalog.numbering(asked(answers, "oracle")[0], "APP.VISITS", "ID") == expected


@pytest.mark.parametrize("instances", [[(2,)], ConfigurationError("no such view")])
def test_instances_of_oracle_that_number_by_themselves(instances: Any) -> None:
    answers = {
        "all_sequences": [(1, "N", 20, "N", 41)],
        "gv$session": instances,
        "all_tab_columns": [('"APP"."S"."NEXTVAL"',)],
    }
    found = oracle_catalog.numbering(asked(answers, "oracle")[0], "VISITS", "ID")
    assert found
    assert "CACHE without ORDER" in found.others
    ordered = answers | {"all_sequences": [(1, "N", 20, "Y", 41)]}
    assert oracle_catalog.numbering(asked(ordered, "oracle")[0], "VISITS", "ID") == Numbering("sequence APP.S", 1, 41)
    hidden = oracle_catalog.numbering(asked(answers | {"all_sequences": []}, "oracle")[0], "VISITS", "ID")
    assert hidden
    assert "GRANT SELECT" in hidden.others
    assert oracle_catalog.numbering(asked({"all_tab_columns": []}, "oracle")[0], "A_VIEW", "ID") is None


def test_the_clocks_of_sql_server_and_oracle() -> None:
    row = [("2026-07-15T12:00:00", "2026-07-15T07:00:00")]
    expected = {datetime(2026, 7, 15, 12, tzinfo=UTC): datetime(2026, 7, 15, 7)}
    assert mssql_catalog.wall_clock(asked({"sysdatetimeoffset": row}, "tsql")[0]) == expected
    assert oracle_catalog.wall_clock(asked({"systimestamp": row}, "oracle")[0]) == expected
