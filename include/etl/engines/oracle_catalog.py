"""What Oracle's catalogue tells of a table; no row of the table is read, but for the ends of an index."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from include.etl.engines.base import Numbering, Statistics, Step, Value
from include.etl.engines.oracle_sql import quoted
from include.etl.errors import ConfigurationError
from include.etl.handover import KeyEquality

OWNER = "coalesce(:own, sys_context('userenv', 'current_schema'))"
ROWS = f"""select num_rows from all_tab_statistics
where owner = {OWNER} and table_name = :tab and object_type = 'TABLE'"""
LEADING = f"""select c.column_name from all_ind_columns c
join all_indexes i on i.owner = c.index_owner and i.index_name = c.index_name
where c.table_owner = {OWNER} and c.table_name = :tab and c.column_position = 1
and i.index_type = 'NORMAL' and i.status in ('VALID', 'N/A')"""
KIND = f"""select c.data_type, s.num_nulls from all_tab_columns c left join all_tab_col_statistics s
on s.owner = c.owner and s.table_name = c.table_name and s.column_name = c.column_name
where c.owner = {OWNER} and c.table_name = :tab and c.column_name = :col"""
DEFAULT = f"""select c.data_default from all_tab_columns c join all_tables t
on t.owner = c.owner and t.table_name = c.table_name
where c.owner = {OWNER} and c.table_name = :tab and c.column_name = :col"""
NEXT_VALUE = re.compile(r'"?(?P<own>[^".]+)"?\."?(?P<seq>[^".]+)"?\."?NEXTVAL"?', re.IGNORECASE)
SEQUENCE = """select increment_by, cycle_flag, cache_size, order_flag, last_number from all_sequences
where sequence_owner = :own and sequence_name = :seq"""
INSTANCES = "select count(distinct inst_id) from gv$session"
WALL_CLOCK = """select to_char(sys_extract_utc(systimestamp), 'YYYY-MM-DD"T"HH24:MI:SS'),
to_char(systimestamp, 'YYYY-MM-DD"T"HH24:MI:SS') from dual"""
PLAIN = "to_char({0}, 'TM9', 'nls_numeric_characters=''.,''')"
# A number stands as itself; of all other types the catalogue keeps a normalised form.
STEPS = f"""select {PLAIN.format("endpoint_value")}, endpoint_number, endpoint_repeat_count from all_tab_histograms
where owner = {OWNER} and table_name = :tab and column_name = :col order by endpoint_number"""
MOMENT = "to_char({0}, 'YYYY-MM-DD\"T\"HH24:MI:SS')"
COLLATION = """select collation(q.{column}) from (select 1 as one from dual) s left join (
{sql}
) q on 1 = 0"""
BY_BYTES = {"BINARY", "USING_NLS_COMP"}
"""Collations by which keys are compared by their bytes, by the constraints that make them unique at least."""
UNKNOWN_NAME = "ORA-00904"

Ask = Callable[[str, dict[str, Any]], list[tuple[Any, ...]]]


def statistics(ask: Ask, table: str, column: str) -> Statistics:
    """Estimated rows, a number's histogram (or the ends of a time that leads an index), and indexed columns.

    Nothing of a view, or of a table whose statistics nobody has gathered.
    """
    *schema, name = table.split(".")
    place = {"own": schema[-1] if schema else None, "tab": name}
    rows = next((found for (found,) in ask(ROWS, place)), None)
    leading = frozenset(found for (found,) in ask(LEADING, place))
    if rows is None:
        return Statistics(leading=leading or None)
    kind, nulls = next(iter(ask(KIND, {**place, "col": column})), ("", 0))
    if kind == "NUMBER":
        steps, total = _numbers(ask(STEPS, {**place, "col": column}))
        missing = float(nulls or 0) * total / max(1, rows - (nulls or 0))
        return Statistics(rows, steps, missing, leading)
    if column in leading and (kind == "DATE" or (kind.startswith("TIMESTAMP") and "ZONE" not in kind)):
        return Statistics(rows, _ends(ask, table, column), leading=leading)
    return Statistics(rows, leading=leading)


def numbering(ask: Ask, table: str, column: str) -> Numbering | None:
    """The sequence in a column's default, or that of its identity. One that a trigger asks is not seen."""
    *schema, name = table.split(".")
    found = ask(DEFAULT, {"own": schema[-1] if schema else None, "tab": name, "col": column})
    if not found:
        return None
    sequence = NEXT_VALUE.fullmatch(str(found[0][0] or "").strip())
    if sequence is None:
        return Numbering()
    generator = f"sequence {sequence['own']}.{sequence['seq']}"
    rows = ask(SEQUENCE, sequence.groupdict())
    if not rows:
        return Numbering(generator, others="this account may not see its settings (GRANT SELECT on it)")
    ((step, cycles, cache, ordered, last),) = rows
    apart = int(cache) > 1 and ordered != "Y" and not _alone(ask)
    others = "CACHE without ORDER: each instance of a cluster (RAC) hands out numbers of its own" if apart else ""
    return Numbering(generator, int(step), int(last), cycles == "Y", others=others)


def _alone(ask: Ask) -> bool:
    """Whether the database has one instance only, as far as the account may see."""
    try:
        return bool(ask(INSTANCES, {})[0][0] == 1)
    except ConfigurationError:
        return False


def wall_clock(ask: Ask) -> dict[datetime, datetime]:
    """What the server's clock shows now, which is what SYSDATE gives, and in UTC."""
    ((moment, shown),) = ask(WALL_CLOCK, {})
    return {datetime.fromisoformat(moment).replace(tzinfo=UTC): datetime.fromisoformat(shown)}


def _numbers(found: list[tuple[Any, ...]]) -> tuple[list[Step], float]:
    """Steps and their whole weight: an endpoint's number is the weight of all up to it, in every kind of histogram."""
    steps: list[Step] = []
    before = 0.0
    for text, number, repeated in found:
        at = float(repeated or 0)
        steps.append(Step(Decimal(text), max(0.0, float(number) - before - at), at))
        before = float(number)
    return steps, before


def _ends(ask: Ask, table: str, column: str) -> list[Step]:
    """The lowest and the highest; asked for both by one SELECT, the server would read the whole index."""
    path = ".".join(quoted(part) for part in table.split("."))
    sides = (MOMENT.format(f"(select {end}({quoted(column)}) from {path})") for end in ("min", "max"))
    ((low, high),) = ask(f"select {', '.join(sides)} from dual", {})
    values: list[Value] = [datetime.fromisoformat(end) for end in (low, high) if end is not None]
    return [Step(value, between=float(n)) for n, value in enumerate(values)]


def key_equality(ask: Ask, sql: str, values: dict[str, Any], column: str, *, padded: bool) -> KeyEquality | None:
    """Which texts of this column of the query are equal; None where those are that are the same. No row is read.

    `padded` says that it is a CHAR, of which blanks at the end count for nothing.
    """
    same = KeyEquality(collation="CHAR", blanks=True) if padded else None
    try:
        ((collation,),) = ask(COLLATION.format(column=quoted(column), sql=sql), values)
    except ConfigurationError as error:
        if UNKNOWN_NAME not in str(error):
            raise
        return same  # before 12.2 no column has a collation of its own
    if collation in BY_BYTES:
        return same
    if collation is None:
        return KeyEquality(untold="the server does not tell its collation", blanks=padded)
    way_out = f"select a canonical form in a query, such as lower({column}) collate BINARY as {column}"
    return KeyEquality(collation=collation, unknown=f"which texts its collation {collation} has for equal; {way_out}")
