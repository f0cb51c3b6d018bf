"""What a PostgreSQL session must be set to, so that every account and every pooled connection reads the same.

The statements here take no snapshot (SET, RESET and SHOW need none): tables can still be locked before there is one.
All of it ends with the transaction, so that a pooled connection is given back as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from include.etl.engines.base import Limits


class Setting(NamedTuple):
    """A setting that an account may set, the value that it needs, and what would follow from another one."""

    name: str
    value: str
    why: str
    since: int = 0
    until: int = 1_000_000
    """The first version without it, as libpq writes versions."""


FORM = "values would be printed in another form"
STRINGS = "the query would be cut into words otherwise than it was when it was checked"
PARTS = "a part of the rows would be left out"
CUT = "the session would be ended while its rows are compared"
SETTINGS = (
    Setting("standard_conforming_strings", "on", STRINGS),
    Setting("backslash_quote", "safe_encoding", STRINGS),
    Setting("client_encoding", "UTF8", FORM),
    Setting("timezone", "UTC", FORM),
    Setting("timezone_abbreviations", "Default", "times would be read in another zone"),
    Setting("datestyle", "ISO, YMD", FORM),
    Setting("intervalstyle", "iso_8601", FORM),
    Setting("bytea_output", "hex", FORM),
    Setting("extra_float_digits", "3", FORM),
    Setting("xmlbinary", "base64", FORM),
    Setting("xmloption", "content", "text would be taken for another kind of XML"),
    Setting("lc_numeric", "C", FORM),
    Setting("lc_time", "C", FORM),
    Setting("quote_all_identifiers", "off", FORM),
    Setting("array_nulls", "on", "NULL within an array would be read as text"),
    Setting("transform_null_equals", "off", "`= NULL` would find rows"),
    Setting("gin_fuzzy_search_limit", "0", PARTS),
    Setting("sql_inheritance", "on", PARTS, until=100_000),
    Setting("idle_session_timeout", "0", CUT, since=140_000),
    Setting("transaction_timeout", "0", CUT, since=170_000),
)
IDLE_S = 900
"""How long the transaction may wait for its client at least: parts are read back and summed up meanwhile."""

REQUIRED = {"transaction_isolation": "repeatable read", "transaction_read_only": "on"}
"""What the transaction was begun with."""
WATCHED = {
    "zero_damaged_pages": ("off", "rows of damaged pages are left out in silence"),
    "ignore_checksum_failure": ("off", "damaged pages are read as if they were whole"),
}
"""What only an administrator sets, for the whole server."""

MONEY = "set local lc_monetary to 'C'"
"""Not where it would move the decimal point: how many decimals money has is known by the locale alone."""

# The session's own defaults: of the account, the database and the server, whatever a pooled connection was left with.
RESET = ("reset all", "set local session_authorization to default", "set local role to default")
SEARCH_PATH = "set local search_path to default; show search_path"
_DECLARED = re.compile(r"(?:-c\s*|--)search_path=((?:\\.|\S)*)")
_ELEMENT = re.compile(r'"((?:[^"]|"")*)"|([^",\s]+)')


def settings(limits: Limits, version: int, *, row_security: str) -> list[Setting]:
    """The list for this version of the server. A lock may take half of the statement timeout."""
    timeout_ms = max(2, int(limits.statement_timeout_s * 1000))
    timed = (
        Setting("statement_timeout", f"{timeout_ms}", "a query would be ended at another time than it should"),
        Setting("lock_timeout", f"{timeout_ms // 2}", "a lock would be waited for too long"),
        Setting("idle_in_transaction_session_timeout", f"{max(timeout_ms, IDLE_S * 1000)}", CUT),
        Setting("row_security", row_security, PARTS),
    )
    return [one for one in (*SETTINGS, *timed) if one.since <= version < one.until]


def pinning(wanted: list[Setting]) -> list[str]:
    """The statements, in their order."""
    return [*RESET, *(f"set local {one.name} to '{one.value}'" for one in wanted)]


def declared_path(options: str) -> str:
    """The search path that the Airflow connection's `options` ask for, or nothing; a pooler may let it fall."""
    found = _DECLARED.findall(options)
    return re.sub(r"\\(.)", r"\1", found[-1]) if found else ""


def search_path(shown: str) -> list[str]:
    """The schemas of a search path as SHOW prints it, and temporary tables last: they hide those of their name."""
    found = [quoted.replace('""', '"') or plain.lower() for quoted, plain in _ELEMENT.findall(shown)]
    return [*(name for name in found if name not in ("", "pg_temp")), "pg_temp"]


def setting_path(schemas: list[str]) -> str:
    """The statement that makes this the search path. No name can end its string: a backslash has its own form."""
    return f"set local search_path to {', '.join(_string(name) for name in schemas)}"


def _string(text: str) -> str:
    doubled = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{doubled}'"


def names(wanted: list[Setting]) -> list[str]:
    """Whatever is read back, in small letters: the server writes some with capitals (TimeZone, DateStyle)."""
    return [*(one.name for one in wanted), *REQUIRED, *WATCHED, "search_path"]


def unlike(found: Mapping[str, str], wanted: list[Setting], schemas: list[str]) -> Iterator[str]:
    """What the session is not set to, though it has to be; None for what the server does not show."""
    for one in wanted:
        if found.get(one.name) != one.value:
            yield f"{one.name} is {found.get(one.name)!r} and cannot be set to {one.value!r}: {one.why}"
    for name, value in REQUIRED.items():
        if found.get(name) != value:
            yield f"{name} is {found.get(name)!r}, though the transaction was begun with {value!r}"
    if search_path(found["search_path"]) != schemas:
        yield f"search_path is {found['search_path']!r}: tables of another schema would be read"


def money(stored: int, locale: str) -> Iterator[str]:
    """What follows where one unit of money is not stored as a hundred, as it is in the locale that is pinned."""
    if stored != 100:
        yield (
            f"lc_monetary is {locale!r}, and not pinned: by it money has other decimals than two; where the tables "
            "were written by another one, values of money are wrong by powers of ten"
        )


def unpinned(found: Mapping[str, str]) -> list[str]:
    """What the account cannot set, and what may follow."""
    return [
        f"{name} is {found[name]!r} on the server: {why}"
        for name, (value, why) in WATCHED.items()
        if found.get(name, value) != value
    ]
