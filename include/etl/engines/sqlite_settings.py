"""What an SQLite connection must be set to, however SQLite was built, and a query in which a wrong name is no text."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from sqlglot.dialects.dialect import Dialect
from sqlglot.tokenizer_core import TokenType

from include.etl.errors import ConfigurationError


class Setting(NamedTuple):
    """A pragma, the value that it needs, and what would follow from another one."""

    name: str
    value: int
    why: str


SETTINGS = (
    Setting("query_only", 1, "the file could be written"),
    Setting("read_uncommitted", 0, "rows of others would be read that are never committed"),
    Setting("reverse_unordered_selects", 0, "rows would come in another order, of equal versions another one last"),
    Setting("short_column_names", 1, "columns would have other names"),
    Setting("full_column_names", 0, "columns would have other names"),
    Setting("cell_size_check", 1, "a damaged page would be read as if it were whole"),
)
LIKE = "pragma case_sensitive_like = 0"
"""It cannot be read back but by its effect."""
UNLOCKED = {"immutable", "nolock"}
"""Options of a file's URI with which SQLite takes no lock, and looks for no changes."""


def pin(connection: sqlite3.Connection, who: object) -> None:
    """Set all of them and read them back.

    Raises:
        ConfigurationError: one could not be set.
    """
    for one in SETTINGS:
        connection.execute(f"pragma {one.name} = {one.value}")
        found = connection.execute(f"pragma {one.name}").fetchall()
        if found != [(one.value,)]:
            raise ConfigurationError(f"{who}: pragma {one.name} is {found} and cannot be set to {one.value}: {one.why}")
    connection.execute(LIKE)
    if connection.execute("select 'a' like 'A', 'a' = 'A'").fetchall() != [(1, 0)]:
        raise ConfigurationError(f"{who}: pragma case_sensitive_like cannot be set to 0: LIKE would find other rows")


def unlocked(options: Mapping[str, str]) -> list[str]:
    """What follows from the connection's options, in words."""
    return [
        f"the connection's option {name!r} makes SQLite read without locks: rows that are written meanwhile may be "
        "missed, or read in halves"
        for name in sorted(UNLOCKED & options.keys())
        if options[name].lower() not in ("0", "no", "off", "false")
    ]


def with_names(sql: str) -> str:
    """The query with every "name" as a `name`: SQLite takes the first, where there is no such column, for a text."""
    pieces, at = [], 0
    for token in Dialect.get_or_raise("sqlite").tokenize(sql):
        if token.token_type is TokenType.IDENTIFIER and sql[token.start] == '"':
            pieces += [sql[at : token.start], "`" + token.text.replace("`", "``") + "`"]
            at = token.end + 1
    return "".join([*pieces, sql[at:]])
