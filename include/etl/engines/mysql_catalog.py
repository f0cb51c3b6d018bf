"""What MySQL's and MariaDB's catalogues tell of a table; no row of it is read, but for the ends of an index."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from include.etl.engines.base import Numbering, Statistics, Step, Value
from include.etl.engines.batches import Row
from include.etl.engines.mysql_sql import literal, quoted
from include.etl.errors import ConfigurationError
from include.etl.handover import KeyEquality

# Nothing is joined: MariaDB would open every table of the server, as it goes by constants alone.
HERE = "table_schema = {schema} and table_name = {table}"
ROWS = f"select table_rows from information_schema.tables where {HERE} and table_type = 'BASE TABLE'"
LEADING = f"select column_name from information_schema.statistics where {HERE} and seq_in_index = 1"
KIND = f"select data_type from information_schema.columns where {HERE} and column_name = {{column}}"
NUMBERING = f"select extra, column_default from information_schema.columns where {HERE} and column_name = {{column}}"
INCREMENT = "select @@global.auto_increment_increment"
NEXT_VALUE = re.compile(r"nextval\((.+)\)", re.IGNORECASE)
WALL_CLOCK = "select convert_tz({}, '+00:00', @@global.time_zone)"
MYSQL = """select cast(histogram as char) from information_schema.column_statistics
where schema_name = {schema} and table_name = {table} and column_name = {column}"""
MARIADB = """select cast(histogram as char), nulls_ratio from mysql.column_stats
where db_name = {schema} and table_name = {table} and column_name = {column} and hist_type = 'JSON_HB'"""

# A LIMIT of 0 keeps MariaDB from filling the table that it makes of the query.
COLLATION = """select collation(q.{column}) from (select 1 as one) s
left join (select * from (\n{sql}\n) z limit 0) q on 1 = 0"""
KNOWN = re.compile(r"[a-z0-9]+_(general|unicode|unicode_520|swedish|0900|uca1400)(_nopad)?(_a[is])?_c[is]")
"""Collations of which is known, by trying all texts of two letters, that of ASCII they take nothing but case for equal.

Those of single languages have letters of two characters, which are equal in some spellings and not in others.
"""


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


CONVERT: dict[str, Callable[[str], Value]] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint"), int),
    "decimal": Decimal,
    "date": date.fromisoformat,
    "datetime": _moment,
    "timestamp": lambda text: _moment(text).replace(tzinfo=UTC),
    **dict.fromkeys(("char", "varchar", "uuid"), str),
}

Ask = Callable[[str], list[Row]]


def statistics(ask: Ask, path: str, column: str) -> Statistics:
    """Estimated rows, the column's histogram (or its ends, where it leads an index), and indexed columns."""
    *schema, table = path.split(".")
    place = {"schema": literal(schema[-1]) if schema else "database()", "table": literal(table)}
    place["column"] = literal(column)
    rows = ask(ROWS.format(**place))
    if not rows:
        return Statistics()
    leading = frozenset(_str(name) for (name,) in ask(LEADING.format(**place)))
    kind = "".join(_str(found) for (found,) in ask(KIND.format(**place))).lower()
    count = int(rows[0][0] or 0)
    if not count or kind not in CONVERT:
        return Statistics(count, leading=leading)
    missing, found = _histogram(ask, place)
    if not found and column in leading and CONVERT[kind] is not str:
        name, whole = quoted(column), ".".join(quoted(part) for part in path.split("."))
        ((low, high),) = ask(f"select min({name}), max({name}) from {whole}")
        found = [(low, 0.0, 0.0), (high, 1.0, 0.0)]
    converted = [Step(_value(kind, text), between, at) for text, between, at in found]
    return Statistics(count, [step for step in converted if step.value is not None], missing, leading)


def numbering(ask: Ask, path: str, column: str) -> Numbering | None:
    """AUTO_INCREMENT, or MariaDB's sequence; None of a view."""
    *schema, table = path.split(".")
    place = {"schema": literal(schema[-1]) if schema else "database()", "table": literal(table)}
    found = ask(ROWS.format(**place)) and ask(NUMBERING.format(**place, column=literal(column)))
    if not found:
        return None
    extra, default = (_str(one or "") for one in found[0])
    if "auto_increment" in extra.lower():
        step = int(ask(INCREMENT)[0][0])
        several = f"auto_increment_increment = {step}: several servers hand out numbers"
        return Numbering("AUTO_INCREMENT", step, others=several if step > 1 else "")
    sequence = NEXT_VALUE.fullmatch(default.strip())
    return _of_sequence(ask, sequence[1]) if sequence else Numbering()


def _of_sequence(ask: Ask, name: str) -> Numbering:
    """A sequence of MariaDB, which is read like a table; its cache is the server's, not a session's."""
    plain = name.replace("`", "")
    try:
        ((step, cycles),) = ask(f"select increment, cycle_option from {name}")
    except ConfigurationError:
        return Numbering(f"sequence {plain}", others="this account may not see its settings (GRANT SELECT on it)")
    others = "INCREMENT 0 or above 1: several servers hand out numbers" if int(step) not in (1, -1) else ""
    return Numbering(f"sequence {plain}", int(step), cycles=bool(int(cycles)), others=others)


def wall_clock(ask: Ask, moments: Sequence[datetime]) -> dict[datetime, datetime]:
    """What sessions that set no zone have for now(); nothing where the server does not know its own zone."""
    shown = ((moment, ask(WALL_CLOCK.format(literal(moment)))[0][0]) for moment in moments)
    return {moment: _moment(_str(found)) for moment, found in shown if found is not None}


def key_equality(ask: Ask, sql: str, column: str) -> KeyEquality | None:
    """Which texts of this column of the query are equal; None where those are that are the same. No row is read."""
    ((found,),) = ask(COLLATION.format(column=quoted(column), sql=sql))
    return compared(_str(found), column)


def compared(collation: str, column: str) -> KeyEquality | None:
    """Which texts a collation takes for equal, by its name; all but some new ones leave out blanks at the end."""
    blanks = not ("_nopad_" in collation or "_0900_" in collation or collation == "binary")
    if collation == "binary" or collation.endswith("_bin"):
        return KeyEquality(collation=collation, blanks=True) if blanks else None
    if KNOWN.fullmatch(collation):
        case = collation.endswith("_ci")
        return KeyEquality(collation=collation, case=case, blanks=blanks, ascii_only=True)
    way_out = (
        f"select a canonical form in a query, such as cast(lower({column}) as char) collate utf8mb4_bin as {column}"
    )
    return KeyEquality(collation=collation, unknown=f"which texts its collation {collation} has for equal; {way_out}")


def is_mariadb(ask: Ask) -> bool:
    """Whether it is MariaDB, by a setting that MySQL does not have: a proxy tells a version of its own."""
    return bool(ask("show variables like 'max_statement_time'"))


def _histogram(ask: Ask, place: dict[str, str]) -> tuple[float, list[tuple[Any, float, float]]]:
    """The share of rows without a value, and values with the shares of what lies before them and at them.

    Nothing where nobody has gathered one, or this account may not see it.
    """
    maria = is_mariadb(ask)
    try:
        kept = ask((MARIADB if maria else MYSQL).format(**place))
    except ConfigurationError:
        return 0.0, []
    if not kept:
        return 0.0, []
    described = json.loads(_str(kept[0][0]), parse_float=Decimal)
    if maria:
        return float(_str(kept[0][1])), mariadb_steps(described)
    return float(described["null-values"]), mysql_steps(described)


def mariadb_steps(described: dict[str, Any]) -> list[tuple[Any, float, float]]:
    """MariaDB's JSON_HB: each bucket has its first value, its share and its number of values; the last has an end."""
    buckets = [bucket for bucket in described["histogram_hb"] if "start" in bucket]
    steps, between = [], 0.0
    for bucket in buckets:
        size, alone = float(bucket["size"]), bucket["ndv"] == 1
        steps.append((bucket["start"], between, size if alone else 0.0))
        between = 0.0 if alone else size
    return steps + [(bucket["end"], between, 0.0) for bucket in buckets[-1:] if between and "end" in bucket]


def mysql_steps(described: dict[str, Any]) -> list[tuple[Any, float, float]]:
    """MySQL's buckets: value and cumulated share, or lowest and highest value, cumulated share and number of values.

    Text is kept in a form that is not documented.
    """
    buckets = described["buckets"]
    if any(str(bucket[0]).startswith("base64:") for bucket in buckets):
        return []
    steps, before = [], Decimal(0)
    for low, *high, cumulated in [bucket[:3] if len(bucket) > 2 else bucket for bucket in buckets]:
        share, before = float(Decimal(cumulated) - before), Decimal(cumulated)
        steps += [(low, 0.0, 0.0), (high[0], share, 0.0)] if high else [(low, 0.0, share)]
    return steps


def _value(kind: str, found: Any) -> Value:
    """The value; None for one that has no form in Python, such as a day of 0000-00-00."""
    try:
        return None if found is None else CONVERT[kind](_str(found))
    except (ValueError, InvalidOperation):
        return None


def _str(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
