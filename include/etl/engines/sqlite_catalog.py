"""What SQLite tells of a table; no row of the table is read, but for the ends of an index."""

from __future__ import annotations

import sqlite3

from include.etl.engines.base import Statistics


def statistics(connection: sqlite3.Connection, table: str, column: str) -> Statistics:
    """Rows by the highest rowid, the column's ends where it leads an index and holds whole numbers, indexed columns."""
    name = _quoted(table)
    kinds = connection.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    if [kind for kind, _ in kinds] != ["table"]:
        return Statistics()
    leading = _leading(connection, name)
    rows = None
    if "WITHOUT ROWID" not in kinds[0][1].upper():
        (rows,) = connection.execute(f"SELECT max(rowid) FROM {name}").fetchone()
    ends: list[object] = []
    if column in leading:
        quoted = _quoted(column)
        ends = list(connection.execute(f"SELECT min({quoted}), max({quoted}) FROM {name}").fetchone())
    return Statistics(rows, [end for end in ends if type(end) is int] if len(ends) == 2 else [], leading)


def _leading(connection: sqlite3.Connection, name: str) -> frozenset[str]:
    """Columns that lead an index, and the one that is the rowid itself."""
    indexes = connection.execute(f"PRAGMA index_list({name})").fetchall()
    firsts = [connection.execute(f"PRAGMA index_info({_quoted(index[1])})").fetchone()[2] for index in indexes]
    columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
    rowid = [column[1] for column in columns if column[5] and column[2].upper() == "INTEGER"]
    return frozenset([*filter(None, firsts), *rowid])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
