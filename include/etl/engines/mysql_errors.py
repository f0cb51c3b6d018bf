"""MySQL's and MariaDB's errors in terms of what to do next, without row data."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pymysql.constants import CR, ER

from include.etl.engines.base import Engine
from include.etl.errors import ConfigurationError, DataError, ExtractionError, TransientError

TIMEOUTS = {1969, 3024}
STOPPED = {1028, 1317}
"""By a time limit, or by somebody; MySQL stops a sort with the first one."""

TRANSIENT = {
    1021, 1037, 1038, 1041,  # disk, memory
    1040, 1129, 1135, 1203, 1226,  # too many connections, threads, requests
    1053, 1077, 1079, 1927, 4031,  # shutting down, connection killed
    1158, 1159, 1160, 1161,  # network
    1205, 1213, 3572,  # locks
    1028, 1317, 1412, 1615,  # sort or query killed, table changed since the snapshot, statement to be prepared again
    1047, 9001,  # a node or a proxy that is not ready
    2002, 2003, 2006, 2012, 2013, 2014, 2026, 2027, 2055,  # the client: cannot connect, connection lost
}  # fmt: skip
LOST_VALUES = {1260, 1301}
"""Warnings: GROUP_CONCAT was cut, a result was larger than max_allowed_packet and became NULL."""
LOST_ROWS = 1931
"""Warning of MariaDB: max_recursive_iterations or LIMIT ROWS EXAMINED has ended the query early."""
MORE_WARNINGS = (
    "the query gave more warnings than the {} that the server keeps (max_error_count): whether values were cut or "
    "became NULL, as they were larger than max_allowed_packet, is not known"
)
DATA = {1264, 1292, 1365, 1366, 1406, 1690, 3140, 3141, 3143, 3156, 3616, 3617, 3731, 3732}  # range, text, JSON, places
NAMES_ONLY = {1044, 1045, 1046, 1049, 1051, 1052, 1054, 1060, 1142, 1143, 1146, 1227, 1251, 1290, 1305, 1698, 1792}
"""Errors whose messages quote users and names of the database's objects, and no values."""

WORDS = {number: name for name, number in {**vars(CR), **vars(ER)}.items() if isinstance(number, int)}

HOPELESS = re.compile(
    r"Name or service not known|nodename nor servname|No address associated|Unknown.*host"
    r"|certificate|SSL is required|not support"
)
"""What to look for in the text of a failed connection, beside its number: no such host, TLS that does not fit."""


def connecting(error: Exception, engine: Engine) -> ExtractionError:
    """The error for a session that could not be opened; the driver names the host and never the password."""
    number, text = _parts(error)
    kind = ConfigurationError if number not in TRANSIENT or HOPELESS.search(text) else TransientError
    return kind(f"{engine}: cannot connect: {text} (error {number})")


def querying(error: Exception, engine: Engine, seconds: float, *, reading_rows: bool) -> ExtractionError:
    """The error for a statement that failed after so many seconds, before or while it read rows.

    While it runs, a routine can raise any text under any number with SIGNAL.
    """
    number, text = _parts(error)
    if number in TIMEOUTS or (number in STOPPED and seconds >= engine.limits.statement_timeout_s):
        return engine.timed_out()
    if number == 0:
        return TransientError(f"{engine}: the connection to the server was lost")
    shown = f"the server reports {WORDS.get(number, 'an error')}" if reading_rows else _scrubbed(number, text)
    return _kind(error, number)(f"{engine}: {shown} (error {number})")


def refuse_losses(codes: Sequence[int], engine: Engine) -> None:
    """Raise DataError where the server's warnings say that a value or the result is not whole."""
    if LOST_VALUES & set(codes):
        raise DataError(
            f"{engine}: a function of the query gave more than the server allows, so that values were cut or became "
            "NULL; raise max_allowed_packet, or select what the value is made of"
        )
    if LOST_ROWS in codes:
        raise DataError(
            f"{engine}: the server ended the query early, and rows may be missing: max_recursive_iterations or LIMIT "
            "ROWS EXAMINED; raise the setting, or take the clause out of the query"
        )


def malformed(engine: Engine) -> TransientError:
    """The error for an answer that is not what the protocol says."""
    return TransientError(
        f"{engine}: the server, or a proxy on the way to it, sent what is not a row of the described columns"
    )


def _kind(error: Exception, number: int) -> type[ExtractionError]:
    if number in TRANSIENT:
        return TransientError
    return DataError if number in DATA or type(error).__name__ == "DataError" else ConfigurationError


def _parts(error: Exception) -> tuple[int, str]:
    """Number and text of a driver's error; 0 where the driver has no number: it uses a connection that is gone."""
    number, text = (*error.args, "", "")[:2]
    return (number, str(text)) if isinstance(number, int) else (0, str(number))


def _scrubbed(number: int, text: str) -> str:
    """The text without what can be a value; a syntax error quotes the query, parameters included."""
    if number in NAMES_ONLY:
        return text
    return re.sub(r"-?\d+(\.\d+)?", "...", re.sub(r"'.*'", "'...'", text, flags=re.DOTALL))
