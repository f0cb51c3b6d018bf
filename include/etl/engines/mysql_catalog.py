"""What MySQL's catalogue tells of a table; no row of the table is read, but for the ends of an index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from include.etl.engines.base import Statistics
from include.etl.engines.batches import Row
from include.etl.engines.mysql_sql import literal, quoted

ROWS = "select table_rows from information_schema.tables where table_schema = {schema} and table_name = {table}"
LEADING = """select column_name from information_schema.statistics
where table_schema = {schema} and table_name = {table} and seq_in_index = 1"""


def statistics(ask: Callable[[str], list[Row]], path: str, column: str) -> Statistics:
    """Estimated rows, the column's ends where it leads an index and holds whole numbers, and indexed columns."""
    *schema, table = path.split(".")
    place = {"schema": literal(schema[-1]) if schema else "database()", "table": literal(table)}
    rows = ask(ROWS.format(**place))
    leading = frozenset(_str(name) for (name,) in ask(LEADING.format(**place)))
    ends: list[Any] = []
    if column in leading:
        name, whole = quoted(column), ".".join(quoted(part) for part in path.split("."))
        ends = [_str(end) for end in ask(f"select min({name}), max({name}) from {whole}")[0] if end is not None]
    bounds = [int(end) for end in ends if end.lstrip("-").isdigit()]
    return Statistics(int(rows[0][0] or 0) if rows else None, bounds if len(bounds) == len(ends) else [], leading)


def _str(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
