"""Without a SQL Server and an Oracle: the cases of the suite hold for types as their drivers describe them."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import oracledb
import pyarrow as pa
import pytest
import sqlglot
from oracledb.fetch_info import FetchInfo

from include.etl.engines.mssql import MsSqlEngine
from include.etl.engines.mssql_types import arrow_type, described, expression
from include.etl.engines.oracle import OracleEngine
from include.etl.engines.oracle_types import plan, requested
from tests.contract.engines.test_types import UNFIT
from tests.contract.engines.type_cases import MSSQL, ORACLE

PRECISIONS = {"money": (19, 4), "smallmoney": (10, 4), "datetime": (23, 3), "smalldatetime": (16, 0)}
SCALED = ("datetime2", "datetimeoffset", "time")
NUMBERS = {"float": (126, -127), "number": (0, -127)}
"""Precision and scale as Oracle describes what declares none."""
CODES = {
    "number": oracledb.DB_TYPE_NUMBER,
    "float": oracledb.DB_TYPE_NUMBER,
    "binary_float": oracledb.DB_TYPE_BINARY_FLOAT,
    "binary_double": oracledb.DB_TYPE_BINARY_DOUBLE,
    "boolean": oracledb.DB_TYPE_BOOLEAN,
    "varchar2": oracledb.DB_TYPE_VARCHAR,
    "nvarchar2": oracledb.DB_TYPE_NVARCHAR,
    "char": oracledb.DB_TYPE_CHAR,
    "nchar": oracledb.DB_TYPE_NCHAR,
    "clob": oracledb.DB_TYPE_CLOB,
    "nclob": oracledb.DB_TYPE_NCLOB,
    "long": oracledb.DB_TYPE_LONG,
    "raw": oracledb.DB_TYPE_RAW,
    "long raw": oracledb.DB_TYPE_LONG_RAW,
    "blob": oracledb.DB_TYPE_BLOB,
    "date": oracledb.DB_TYPE_DATE,
    "timestamp": oracledb.DB_TYPE_TIMESTAMP,
    "timestamp with time zone": oracledb.DB_TYPE_TIMESTAMP_TZ,
    "timestamp with local time zone": oracledb.DB_TYPE_TIMESTAMP_LTZ,
    "interval day to second": oracledb.DB_TYPE_INTERVAL_DS,
    "interval year to month": oracledb.DB_TYPE_INTERVAL_YM,
    "rowid": oracledb.DB_TYPE_ROWID,
    "urowid": oracledb.DB_TYPE_UROWID,
    "json": oracledb.DB_TYPE_JSON,
    "xmltype": oracledb.DB_TYPE_XMLTYPE,
}
DRIVER_MAKES = {
    oracledb.DB_TYPE_NUMBER: (pa.types.is_decimal, pa.types.is_integer),
    oracledb.DB_TYPE_DATE: (pa.types.is_timestamp,),
    oracledb.DB_TYPE_TIMESTAMP: (pa.types.is_timestamp,),
    oracledb.DB_TYPE_BINARY_FLOAT: (pa.types.is_float32,),
    oracledb.DB_TYPE_BINARY_DOUBLE: (pa.types.is_float64,),
    oracledb.DB_TYPE_BOOLEAN: (pa.types.is_boolean,),
    oracledb.DB_TYPE_RAW: (pa.types.is_binary,),
    oracledb.DB_TYPE_BLOB: (pa.types.is_binary,),
}
"""What python-oracledb's documentation lets each type be asked for as, without loss; all others as text."""


def digits(declared: str) -> list[int]:
    """The numbers in a declaration's parentheses."""
    inside = re.search(r"\(([\d, -]+)\)", declared)
    return [int(number) for number in inside[1].split(",")] if inside else []


def described_by_sql_server(declared: str) -> dict[str, Any]:
    """The row of sp_describe_first_result_set for a column that is declared like this."""
    name, given = re.split(r"[(\s]", declared)[0], digits(declared)
    precision, scale = PRECISIONS.get(name, (0, 0))
    if name in ("decimal", "numeric"):
        precision, scale = given
    elif name in SCALED:
        scale = given[0]
    system = None if name == "hierarchyid" else declared.split(" collate")[0]
    width = -1 if "(max)" in declared or name in ("xml", "json") else 8
    row = {"is_hidden": False, "column_ordinal": 1, "name": "c", "system_type_name": system, "user_type_name": None}
    row |= {"user_type_name": name} if system is None else {}
    return {**row, "max_length": width, "precision": precision, "scale": scale}


def described_by_oracle(declared: str) -> FetchInfo:
    """The driver's description of a column that is declared like this."""
    name, given = re.sub(r"\([^)]*\)", "", declared), digits(declared)
    precision, scale = NUMBERS.get(name, (0, 0))
    if name == "number" and given:
        precision, scale = given[0], (given[1] if len(given) > 1 else 0)
    elif name.startswith("timestamp"):
        scale = given[0]
    impl = SimpleNamespace(name="C", dbtype=CODES[name], precision=precision, scale=scale, buffer_size=8, max_size=8)
    return FetchInfo._from_impl(impl)


@pytest.mark.parametrize(("declared", "sql", "kind", "value"), MSSQL, ids=lambda given: str(given)[:40])
def test_sql_server(declared: str, sql: str, kind: pa.DataType, value: Any) -> None:
    for statement in (f"create table t (c {declared} null)", f"insert into t values ({sql})"):
        sqlglot.parse_one(statement, dialect="tsql")
    engine = MsSqlEngine("clinic")
    column = described(described_by_sql_server(declared), engine)
    assert arrow_type(column, engine) == kind
    assert pa.array([value, None], kind).to_pylist() == [value, None]
    for rows in (False, True):
        if form := expression(column, rows):
            sqlglot.parse_one(f"select {form} as c from (select c from t) as _q", dialect="tsql")


@pytest.mark.parametrize(("declared", "sql", "kind", "value"), ORACLE, ids=lambda given: str(given)[:40])
def test_oracle(declared: str, sql: str, kind: pa.DataType, value: Any) -> None:
    sqlglot.parse_one(f"select {sql} from dual", dialect="oracle")
    column = described_by_oracle(declared)
    made = plan(column, OracleEngine("clinic"))
    assert made.field.type == kind
    assert pa.array([value, None], kind).to_pylist() == [value, None]
    (asked,) = requested([made]).types
    if not made.is_converted:
        assert any(test(asked) for test in DRIVER_MAKES.get(column.type_code, (pa.types.is_string,)))


def test_what_is_refused_is_parsed_too() -> None:
    for declared, sql in (*UNFIT["mssql-pymssql"], *UNFIT["oracle"]):
        dialect = "tsql" if declared.startswith("datetime2") else "oracle"
        sqlglot.parse_one(f"select {sql} as v", dialect=dialect)
