"""Where the rows of an SQLite query come from: tables of the file, views, or tables that a module makes up."""

from __future__ import annotations

import re
import sqlite3

from include.etl.engines.base import Origins
from include.etl.engines.origins import Path, reading, select_of

VIRTUAL = re.compile(r"\s*create\s+virtual\s+table\b.*?\busing\s+(\w+)", re.IGNORECASE | re.DOTALL)
STORED = {"fts3", "fts4", "fts5", "rtree", "rtree_i32", "geopoly"}
"""Modules that keep their rows in the file itself, in tables of their own."""
AWAY = "{name} is a virtual table (module {module}), whose rows are not written by SQLite itself"
FOUND = "select name, type, sql from sqlite_master where type in ('table', 'view') and lower(name) = lower(?)"


def origins(connection: sqlite3.Connection, sql: str) -> Origins:
    """Of a query, by the catalogue of the file."""
    relations: list[str] = []
    elsewhere: list[str] = []

    def definition(path: Path) -> str | None:
        found = connection.execute(FOUND, (path[-1],)).fetchone()
        if found is None:  # a table-valued function, or a table of the catalogue itself
            return None
        name, kind, made_by = found
        relations.append(f"main.{name}")
        module = VIRTUAL.match(made_by or "")
        if module and module[1].lower() not in STORED:
            elsewhere.append(AWAY.format(name=name, module=module[1]))
        return select_of(made_by, "sqlite", "main") if kind == "view" else None

    caveats = reading(sql, "sqlite", definition).caveats
    return Origins(relations=relations, elsewhere="; ".join(elsewhere), caveats=caveats)
