"""What Oracle's catalogue tells of a table; no row of the table is read, but for the ends of an index."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from include.etl.engines.base import Statistics, Step, Value
from include.etl.engines.oracle_sql import quoted

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
PLAIN = "to_char({0}, 'TM9', 'nls_numeric_characters=''.,''')"
# A number stands as itself; of all other types the catalogue keeps a normalised form.
STEPS = f"""select {PLAIN.format("endpoint_value")}, endpoint_number, endpoint_repeat_count from all_tab_histograms
where owner = {OWNER} and table_name = :tab and column_name = :col order by endpoint_number"""
MOMENT = "to_char({0}, 'YYYY-MM-DD\"T\"HH24:MI:SS')"

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
