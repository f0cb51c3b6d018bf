"""What a SQL Server session must be set to, so that every login and every server's defaults read the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

ON, OFF = "set", ""
"""How DBCC USEROPTIONS prints a switch that is on; one that is off is not listed."""
READ_BACK = "dbcc useroptions with no_infomsgs"
LARGEST_TEXT = 2_147_483_647

PARSED = "the query would be read otherwise than it was when it was checked"
NULLS = "comparisons with NULL, or text joined with it, would give other rows and values"
NULLED = "a number that overflows, or is divided by zero, would become NULL in silence"
DATES = "text would be read as other dates, and days counted from another one"


class Setting(NamedTuple):
    """A setting as DBCC USEROPTIONS names it, the value that it needs, and what would follow from another one."""

    name: str
    value: str
    why: str


SETTINGS = (
    Setting("rowcount", OFF, "every result would be cut in silence, those of counts and of open transactions too"),
    Setting("textsize", f"{LARGEST_TEXT}", "long text and bytes would be cut in silence"),
    Setting("quoted_identifier", ON, PARSED),
    Setting("ansi_nulls", ON, NULLS),
    Setting("concat_null_yields_null", ON, NULLS),
    Setting("ansi_padding", ON, "trailing blanks and zero bytes would be cut"),
    Setting("ansi_warnings", ON, NULLED),
    Setting("arithabort", ON, NULLED),
    Setting("arithignore", OFF, NULLED),
    Setting("numeric_roundabort", OFF, "a number that is rounded would end the query"),
    Setting("implicit_transactions", OFF, "transactions would begin where none is wanted"),
    Setting("xact_abort", OFF, "an error would end the transaction, and with it the one state that is seen"),
    Setting("language", "us_english", DATES),
    Setting("dateformat", "mdy", DATES),
    Setting("datefirst", "7", DATES),
)
SWITCHED_ON = (
    "quoted_identifier",
    "ansi_nulls",
    "concat_null_yields_null",
    "ansi_padding",
    "ansi_warnings",
    "arithabort",
)
SWITCHED_OFF = ("arithignore", "numeric_roundabort", "implicit_transactions", "xact_abort")
PINNING = (
    *(f"set {name} on" for name in SWITCHED_ON),
    *(f"set {name} off" for name in SWITCHED_OFF),
    "set rowcount 0",
    f"set textsize {LARGEST_TEXT}",
    "set language us_english",
    "set dateformat mdy",
    "set datefirst 7",
    "set deadlock_priority low",  # whoever treats a patient goes on, and this system tries again
)

NOT_TOLD = (
    "the server does not tell what the session is set to (DBCC USEROPTIONS): whether rows or text are cut (ROWCOUNT, "
    "TEXTSIZE), or NULL and dates taken otherwise, is not known"
)


def options(rows: Sequence[tuple[Any, ...]]) -> dict[str, str]:
    """What DBCC USEROPTIONS has printed."""
    return {str(name).strip().lower(): str(value).strip().lower() for name, value in rows}


def unlike(found: Mapping[str, str]) -> Iterator[str]:
    """What the session is not set to, though it has to be."""
    for one in SETTINGS:
        value = found.get(one.name, OFF)
        if value != one.value and not (one.name == "rowcount" and value == "0"):
            yield f"{one.name} is {value or 'off'!r} and cannot be set to {one.value or 'off'!r}: {one.why}"


def is_snapshot(found: Mapping[str, str]) -> bool:
    """Whether the session's transactions see one state of the database."""
    return found.get("isolation level") == "snapshot"
