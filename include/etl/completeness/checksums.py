"""Order-independent checksums of columns: the same exact number from a database's SQL and from DuckDB's.

Numbers are summed up, dates as days, timestamps as micro- or nanoseconds since 1970 in UTC, text as the first bits of
the SHA-256 of its UTF-8. Nothing passes through a float. A new database is one entry of FORMS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from sqlglot import exp

from include.etl.config import Source
from include.etl.engines.base import Query
from include.etl.engines.mssql_sql import converted
from include.etl.errors import ConfigurationError

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["integer", "decimal", "wide decimal", "date", "microseconds", "nanoseconds", "text"]
NARROW_DIGITS = 28
"""DuckDB sums decimals of up to so many digits over 10**10 rows without passing its 38."""
DIGITS = 14
"""Hexadecimal digits taken of a hash: a number that every database holds as an integer."""
HASH = "SHA-256"
"""MD5 is gone from MySQL 9.7, and wherever FIPS is asked for; manifests that name no hash of a text have used it."""
HALF = 10**18
"""What the lower half of a wide decimal's unscaled digits counts up to; `totals.py` puts the halves together."""

# Oracle subtracts dates before 15 October 1582 by the Julian calendar; these are days since 1970 by the Gregorian one,
# of years that begin in March, so that the leap day is their last.
_ORACLE_YEAR = "(extract(year from {0}) - case when extract(month from {0}) < 3 then 1 else 0 end)"
_ORACLE_DAYS = (
    f"(365 * {_ORACLE_YEAR} + floor({_ORACLE_YEAR} / 4) - floor({_ORACLE_YEAR} / 100) + floor({_ORACLE_YEAR} / 400)"
    " + floor((153 * mod(extract(month from {0}) + 9, 12) + 2) / 5) + extract(day from {0}) - 719469)"
)
_ORACLE_MINUTES = (
    f"({_ORACLE_DAYS} * 1440 + extract(hour from cast({{0}} as timestamp)) * 60"
    " + extract(minute from cast({0} as timestamp)))"
)
_TSQL_MOMENT = "cast(convert(varchar(27), {0}, 126) as datetime2(7))"  # a datetime's digits as they are read
# Unscaled digits, which no number of rows makes overflow in two halves. CONCAT takes NULL for an empty text.
_TSQL_DIGITS = f"right(concat('{'0' * 40}', replace(replace(convert(varchar(41), {{0}}), '.', ''), '-', '')), 40)"
_TSQL_UNICODE = "convert(nvarchar(max), {0})"  # varchar(3) in UTF-8 holds 3 bytes, and not 'abé'
_TSQL_SIGN = "case when {0} < 0 then -1 else 1 end"
_DUCKDB_DIGITS = "replace({0}::VARCHAR, '.', '')::HUGEINT"
FORMS: Mapping[str, Mapping[Kind, str]] = {
    "postgres": {
        "integer": "sum({0}::bigint)::text",
        "decimal": "sum({0})::text",
        "date": "sum({0} - date '1970-01-01')::text",
        # epoch is a float before PostgreSQL 14, and exact to the second even so
        "microseconds": (
            "sum(extract(epoch from date_trunc('second', {0}))::bigint * 1000000"
            " + extract(microseconds from {0})::bigint % 1000000)::text"
        ),
        # concat prints as COPY does, also the padding of char(n), which a cast to text cuts
        "text": (
            "sum(case when {0} is not null then "
            f"('x' || encode(substr(sha256(convert_to(concat({{0}}), 'UTF8')), 1, {DIGITS // 2}), 'hex'))"
            f"::bit({4 * DIGITS})::bigint end)::text"
        ),
    },
    "mysql": {
        "integer": "cast(sum({0} + 0) as char)",
        "decimal": "cast(sum({0}) as char)",
        "date": "cast(sum(to_days({0}) - 719528) as char)",
        "microseconds": "cast(sum(timestampdiff(microsecond, '1970-01-01', {0})) as char)",
        "text": (
            f"cast(sum(cast(conv(left(sha2(convert({{0}} using utf8mb4), 256), {DIGITS}), 16, 10)"
            " as unsigned)) as char)"
        ),
    },
    "tsql": {
        "integer": "convert(varchar(50), sum(cast(cast({0} as bigint) as decimal(38, 0))))",
        # the text of money has two of its four decimals, and a sum of 38 digits has no room for one more
        "decimal": "convert(varchar(50), sum(cast({0} as decimal(38, {1}))))",
        "wide decimal": (
            f"concat(coalesce(sum(cast(left({_TSQL_DIGITS}, 22) as decimal(38, 0)) * {_TSQL_SIGN}), 0), '|', "
            f"coalesce(sum(cast(right({_TSQL_DIGITS}, 18) as decimal(38, 0)) * {_TSQL_SIGN}), 0), '|{{1}}')"
        ),
        "date": "convert(varchar(50), sum(cast(datediff(day, '1970-01-01', {0}) as bigint)))",
        "microseconds": (
            f"convert(varchar(50), sum(cast(datediff_big(microsecond, '1970-01-01', {_TSQL_MOMENT})"
            " as decimal(38, 0))))"
        ),
        "nanoseconds": (
            f"convert(varchar(50), sum(cast(datediff_big(nanosecond, '1970-01-01', {_TSQL_MOMENT}) as decimal(38, 0))))"
        ),
        "text": (
            "convert(varchar(50), sum(cast(cast(substring(hashbytes('SHA2_256', convert(varchar(max), "
            f"{_TSQL_UNICODE} collate Latin1_General_100_CI_AS_SC_UTF8)), 1, {DIGITS // 2})"
            " as bigint) as decimal(38, 0))))"
        ),
    },
    "oracle": {
        "integer": "to_char(sum({0}), 'TM9')",
        "decimal": "to_char(sum({0}), 'TM9', 'NLS_NUMERIC_CHARACTERS=''.,''')",
        "date": f"to_char(sum({_ORACLE_DAYS}), 'TM9')",
        "microseconds": (
            f"to_char(sum({_ORACLE_MINUTES} * 60000000"
            " + round(extract(second from cast({0} as timestamp)) * 1000000)), 'TM9')"
        ),
        "nanoseconds": (
            f"to_char(sum({_ORACLE_MINUTES} * 60000000000 + round(extract(second from {{0}}) * 1000000000)), 'TM9')"
        ),
        "text": (
            "to_char(sum(to_number(substr(rawtohex(standard_hash(convert(to_char({0}), 'AL32UTF8'), 'SHA256')), 1, "
            f"{DIGITS}), '{'X' * DIGITS}')), 'TM9')"
        ),
    },
    # Aggregates that engines/sqlite_totals.py registers on the session's own connection.
    "sqlite": {
        "integer": "total_numbers({0})",
        "decimal": "total_numbers({0})",
        "date": "total_days({0})",
        "microseconds": "total_microseconds({0})",
        "text": "total_text({0})",
    },
    "duckdb": {
        "integer": "sum({0})::VARCHAR",
        "decimal": "sum({0})::VARCHAR",
        "wide decimal": (
            f"sum({_DUCKDB_DIGITS} // {HALF}::HUGEINT)::VARCHAR || '|' || "
            f"sum({_DUCKDB_DIGITS} % {HALF}::HUGEINT)::VARCHAR || '|' || "
            "max(length(split_part({0}::VARCHAR, '.', 2)))::VARCHAR"
        ),
        "date": "sum({0} - DATE '1970-01-01')::VARCHAR",
        "microseconds": "sum(epoch_us({0}::TIMESTAMP))::VARCHAR",
        "nanoseconds": "sum(epoch_ns({0}::TIMESTAMP_NS))::VARCHAR",
        "text": f"sum(('0x' || left(sha256({{0}}), {DIGITS}))::BIGINT)::VARCHAR",
    },
}
_COUNT = {
    "postgres": "count({0})::text",
    "mysql": "cast(count({0}) as char)",
    "tsql": "convert(varchar(50), count_big({0}))",
    "oracle": "to_char(count({0}), 'TM9')",
    "sqlite": "count({0})",
    "duckdb": "count({0})::VARCHAR",
}


def kind_of(type_: pa.DataType) -> Kind | None:
    """How values of this type are summed up; None for those that have no exact sum (floats, bytes, times of day)."""
    import pyarrow as pa

    if pa.types.is_decimal(type_):
        return "decimal" if type_.precision <= NARROW_DIGITS else "wide decimal"
    if pa.types.is_timestamp(type_):
        if type_.unit == "ns":
            return None if type_.tz else "nanoseconds"
        return "microseconds"
    tests: list[tuple[Kind, bool]] = [
        ("integer", pa.types.is_integer(type_)),
        ("date", pa.types.is_date(type_)),
        ("text", pa.types.is_string(type_) or pa.types.is_large_string(type_)),
    ]
    return next((kind for kind, found in tests if found), None)


def check_columns(source: Source, schema: pa.Schema, dialect: str) -> None:
    """Refuse columns of `verify` that are not in the result, or have no checksum.

    Raises:
        ConfigurationError: with the columns that would do.
    """
    able = [field.name for field in schema if _form(dialect, kind_of(field.type)) is not None]
    for column in source.verify.columns:
        if column not in able:
            found = f"it is {schema.field(column).type}" if column in schema.names else "it is not in the result"
            raise ConfigurationError(
                f"source {source.source!r}: verify.columns: {column!r}: {found}; allowed: columns of whole numbers, "
                f"decimals, dates, timestamps or text ({', '.join(able) or 'none here'})"
            )


def over(query: Query, dialect: str, fields: Mapping[str, pa.DataType]) -> Query:
    """The query that counts another one's rows, and counts and sums up these columns of it."""
    return selecting(query, dialect, selected(dialect, fields))


def selecting(query: Query, dialect: str, expressions: list[str], where: str = "") -> Query:
    """The query that has these expressions over another one's rows, or over those that meet a condition."""
    listed = ", ".join(expressions)
    if dialect == "tsql":
        return Query(converted(query.sql, expressions, where), query.params)
    alias = "q_" if dialect == "oracle" else "_q"  # Oracle's names begin with a letter
    met = f" where {where}" if where else ""
    return Query(f"select {listed} from (\n{query.sql}\n) {alias}{met}", query.params)


def counted(dialect: str, expression: str = "*") -> str:
    """The number of rows, or of values, as this database prints it."""
    return _COUNT[dialect].format(expression)


def selected(dialect: str, fields: Mapping[str, pa.DataType]) -> list[str]:
    """The expressions: the rows, then the values and the sum of each column, all of them text."""
    found = [counted(dialect)]
    for name, type_ in fields.items():
        column = exp.to_identifier(name, quoted=True).sql(dialect=dialect)
        form = _form(dialect, kind_of(type_))
        assert form is not None, f"{name} has passed check_columns"
        summed = f"sys_extract_utc({column})" if dialect == "oracle" and getattr(type_, "tz", None) else column
        found += [counted(dialect, column), form.format(summed, getattr(type_, "scale", 0))]
    return [f"{expression} as total_{number}" for number, expression in enumerate(found)]


def _form(dialect: str, kind: Kind | None) -> str | None:
    if kind is None:
        return None
    forms = FORMS[dialect]
    return forms.get(kind) or (forms["decimal"] if kind == "wide decimal" else None)
