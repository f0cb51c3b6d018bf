"""Renders a source's SQL: Jinja decides structure, values stay parameters, and only one SELECT passes."""

from __future__ import annotations

from pathlib import Path

import sqlglot
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment
from sqlglot import exp

from include.etl import slices
from include.etl.config import Source, include_folder
from include.etl.engines.base import Query, Value
from include.etl.errors import ConfigurationError
from include.etl.handover import Bounds, Window
from include.etl.sql_guard import only_select

START, END = "window_start", "window_end"


def build(
    source: Source, dialect: str, window: Window, start: Value = None, end: Value = None, part: Bounds | None = None
) -> Query:
    """The query of a slice. `start` and `end` are the window's bounds in the cursor column's own type.

    Raises:
        ConfigurationError: the template is missing or wrong, is more than one SELECT, or ignores the window.
    """
    sql = _from_template(source, window) if source.query else _from_table(source, dialect, window)
    where = f"source {source.source!r}, {source.query or source.table}"
    only_select(sql, dialect, where)
    names = {node.name for node in sqlglot.parse_one(sql, dialect=dialect).find_all(exp.Placeholder)}
    if source.query and window.mode != "full" and END not in names:
        raise ConfigurationError(
            f"{where}: the query does not use the window, so every run would read everything; "
            f"put {{{{ window('{source.cursor.column if source.cursor else 'column'}') }}}} in its WHERE clause"
        )
    bounds = {name: value for name, value in ((START, start), (END, end)) if name in names}
    return slices.within(Query(sql, bounds), part, dialect) if part and part.column else Query(sql, bounds)


def keys_query(table: str, columns: list[str], dialect: str) -> Query:
    """The distinct keys of a table that other rows refer to."""
    listed = ", ".join(quote(column, dialect) for column in columns)
    return Query(f"SELECT DISTINCT {listed} FROM {_quote_path(table, dialect)}")


def first_rows(table: str, most: int, dialect: str) -> Query:
    """A line for each of the table's rows, of so many at most."""
    place = exp.to_table(_quote_path(table, dialect), dialect=dialect)
    return Query(exp.select("1 AS one").from_(place).limit(most).sql(dialect=dialect))


def predicate(column: str, window: Window, nulls: str = "first_run") -> str:
    """The condition that a row's cursor lies in the window. A window without start takes rows without cursor too.

    An incremental one does so by the policy `cursor.nulls`: nothing tells which of them are new. They lie in no range.
    """
    if window.mode == "full":
        return "1 = 1"
    if window.read_from is None:
        return f"({column} < :{END} OR {column} IS NULL)"
    within = f"{column} >= :{START} AND {column} < :{END}"
    if window.mode == "incremental" and nulls != "first_run":
        return f"(({within}) OR {column} IS NULL)"
    return f"({within})"


def _from_template(source: Source, window: Window) -> str:
    path = include_folder() / "sql" / str(source.query)
    default = source.cursor.column if source.cursor else ""

    def condition(column: str = default) -> str:
        if not source.cursor:
            raise ConfigurationError(f"{path.name}: window() needs `cursor` in {source.source}.yaml")
        return predicate(column, window, source.cursor.nulls)

    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    try:
        return environment.from_string(_read(path, source)).render(window=condition, mode=window.mode).strip()
    except TemplateError as error:
        line = f", line {error.lineno}" if hasattr(error, "lineno") else ""
        raise ConfigurationError(f"source {source.source!r}, {path.name}{line}: {error}") from None


def _read(path: Path, source: Source) -> str:
    try:
        return path.read_text(encoding="utf-8").strip().rstrip(";")
    except OSError as error:
        known = ", ".join(sorted(found.name for found in path.parent.glob("*.sql")))
        raise ConfigurationError(
            f"source {source.source!r}: query: {path.name!r}: {error.strerror}; allowed: {known or 'no file yet'}"
        ) from None


def _from_table(source: Source, dialect: str, window: Window) -> str:
    columns = ", ".join(quote(column, dialect) for column in source.columns) or "*"
    sql = f"SELECT {columns} FROM {_quote_path(str(source.table), dialect)}"
    if window.mode == "full" or not source.cursor:
        return sql
    return f"{sql} WHERE {predicate(quote(source.cursor.column, dialect), window, source.cursor.nulls)}"


def quote(name: str, dialect: str) -> str:
    """A column's name as the database takes it."""
    return exp.to_identifier(name, quoted=True).sql(dialect=dialect)


def _quote_path(path: str, dialect: str) -> str:
    return ".".join(quote(part, dialect) for part in path.split("."))


def tables(query: Query, dialect: str) -> list[list[str]]:
    """The tables that a query reads, each as the parts of its name; names of its WITH clauses are none."""
    parsed = sqlglot.parse_one(query.sql, dialect=dialect)
    own = {found.alias_or_name for found in parsed.find_all(exp.CTE)}
    found = [[part.name for part in table.parts] for table in parsed.find_all(exp.Table)]
    return [list(name) for name in dict.fromkeys(map(tuple, found)) if not (len(name) == 1 and name[0] in own)]
