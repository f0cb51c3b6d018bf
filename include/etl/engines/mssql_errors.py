"""SQL Server's errors in terms of what to do next, without row data."""

from __future__ import annotations

import re
from typing import NamedTuple

from include.etl.engines.base import Engine
from include.etl.errors import ConfigurationError, DataError, ExtractionError, TransientError


class Fault(NamedTuple):
    """What a client tells of an error: pymssql the server's number, mssql-python the SQLSTATE; each the text."""

    number: int = 0
    state: str = ""
    text: str = ""


TRANSIENT = {
    -2, 53, 121, 233, 258, 10053, 10054, 10060, 10061,  # network
    596, 3980, 6005, 6006, 17142, 17147, 17148, 17187, 17197, 18401, 18461,  # shutting down, starting, single user
    701, 802, 1204, 1221, 8628, 8645, 8651, 10928, 10929, 17809, 17810,  # memory, locks, workers, connections
    904, 921, 922, 976, 983, 3929, 41131, 41301, 41302, 41305,  # recovering, failing over
    3947, 3948, 3958, 3959, 3961, 3966, 3967,  # versions of rows
    1205, 1222,  # deadlock, lock timeout
    4221, 40143, 40197, 40501, 40540, 40549, 40550, 40613, 49918, 49919, 49920,  # Azure
    20002, 20003, 20004, 20006, 20009, 20017, 20047,  # FreeTDS: cannot connect, timeout, line broken
}  # fmt: skip
DATA = {220, 232, 241, 242, 244, 245, 248, 257, 295, 512, 517, 535, 2628, 8114, 8115, 8134, 8152, 8169, 9402, 9420}
TRANSIENT_STATES = ("08", "40", "HYT01", "IMC")
LOST_STATES = ("08", "IMC")
"""The line broke; IMC are Microsoft's own, of a connection that could not be made anew."""
DATA_STATES = "22"
TIMEOUT_STATES = {"HYT00", "HY008"}
TIMEOUT_NUMBER = 20003
# mssql-python passes no number on; these are the server's own words.
TRANSIENT_TEXT = re.compile(
    r"deadlock|Lock request time ?out|in the kill state|SHUTDOWN is in progress|server is not ready|script upgrade"
    r"|single user mode|is currently busy|is not currently available|too many (connections|requests|sessions)"
    r"|resource limit|insufficient (system )?memory"
    r"|being recovered|maximum number of .* connections|transport-level|forcibly closed|Communication link failure"
    r"|Snapshot isolation transaction (aborted|failed)|version store|versioned row|Retry the transaction"
    r"|Connection may have been terminated|encountered an error processing your request",
    re.IGNORECASE,
)
TIMED_OUT_TEXT = re.compile(r"Query timeout expired|Operation canceled|Operation cancelled", re.IGNORECASE)
REFUSED_TEXT = re.compile(r"is not allowed in this database", re.IGNORECASE)
"""Error 3952 begins like those of a snapshot that was lost, and does not pass by itself."""
LOCK_TEXT = re.compile(r"Lock request", re.IGNORECASE)
HOPELESS = re.compile(
    r"Login failed|Cannot open database|certificate|SSL routines|0x2AF9|Name or service not known"
    r"|not associated with a trusted|password|does not exist",
    re.IGNORECASE,
)
"""What to look for in a failed connection beside its number: refused by name, no such host, TLS that does not fit."""
NAMES_ONLY = re.compile(
    r"Invalid object name|Invalid column name|permission (was )?denied|Cannot open database|Login failed"
    r"|could not be bound|is not a recognized|Could not find stored procedure|specified multiple times"
    r"|(relation|column|database) .* does not exist|specified more than once",  # where PostgreSQL answers in its place
    re.IGNORECASE,
)
"""Messages that quote names of the database's objects, and no values."""
QUOTED = re.compile(r"(['\"]).*\1")
"""What may be a value; its words say nothing about the error."""
DBLIB = re.compile(r"DB-Lib error message \d+, severity \d+:\n(General SQL Server error: Check messages.*)?")


def connecting(fault: Fault, engine: Engine, password: str) -> ExtractionError:
    """The error for a session that could not be opened."""
    text = _clean(fault.text)
    if password:
        text = text.replace(password, "***")
    transient = _is_transient(fault) and not HOPELESS.search(text)
    kind = TransientError if transient or TRANSIENT_TEXT.search(text) else ConfigurationError
    return kind(f"{engine}: cannot connect: {text}{_code(fault)}")


def querying(fault: Fault, engine: Engine, seconds: float) -> ExtractionError:
    """The error for a statement that failed after so many seconds."""
    text = _clean(fault.text)
    words = QUOTED.sub("", text)
    if _is_timeout(fault, words) and seconds >= engine.limits.statement_timeout_s * 0.9:
        return engine.timed_out()
    if fault.state.startswith(LOST_STATES) or "Not connected" in words:
        return TransientError(f"{engine}: the connection to the server was lost{_code(fault)}")
    data = fault.number in DATA or fault.state.startswith(DATA_STATES)
    passing = _is_transient(fault) or (TRANSIENT_TEXT.search(words) and not data)
    if passing and not REFUSED_TEXT.search(words):
        return TransientError(f"{engine}: {_scrubbed(text)}{_code(fault)}")
    return (DataError if data else ConfigurationError)(f"{engine}: {_scrubbed(text)}{_code(fault)}")


def _is_timeout(fault: Fault, text: str) -> bool:
    if LOCK_TEXT.search(text):
        return False
    return fault.state in TIMEOUT_STATES or fault.number == TIMEOUT_NUMBER or bool(TIMED_OUT_TEXT.search(text))


def _is_transient(fault: Fault) -> bool:
    return fault.number in TRANSIENT or fault.state.startswith(TRANSIENT_STATES) or fault.state in TIMEOUT_STATES


def _clean(text: str) -> str:
    """One line of the server's words, without the names of the layers that passed them on."""
    words = re.sub(r"^(\[[^\]]*\])+", "", DBLIB.sub(" ", text))
    return " ".join(words.split())


def _scrubbed(text: str) -> str:
    """The text without what can be a value; a syntax error quotes the query, parameters included."""
    if NAMES_ONLY.search(QUOTED.sub("", text)):
        return text
    return re.sub(r"value = .*", "value = ...", QUOTED.sub("'...'", text))


def _code(fault: Fault) -> str:
    if fault.number:
        return f" (error {fault.number})"
    return f" (SQLSTATE {fault.state})" if fault.state else ""
