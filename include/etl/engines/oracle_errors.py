"""Oracle's errors in terms of what to do next, without row data."""

from __future__ import annotations

import re
import socket
from typing import Any

from include.etl.engines.base import Engine
from include.etl.errors import ConfigurationError, DataError, ExtractionError, TransientError

TIMEOUTS = {"DPY-4024", "ORA-01013", "ORA-03156"}
TRANSIENT = {
    "DPY-1001", "DPY-4011", "DPY-4024", "DPY-6000", "DPY-6001", "DPY-6005",  # not connected, lost, refused
    "ORA-00018", "ORA-00020", "ORA-00054", "ORA-00060", "ORA-00257", "ORA-01013",  # sessions, locks, archiver
    "ORA-01033", "ORA-01034", "ORA-01089", "ORA-01090", "ORA-01092", "ORA-27101",  # starting, shutting down
    "ORA-01115", "ORA-00376", "ORA-01652", "ORA-22924",  # I/O
    "ORA-01466", "ORA-01555", "ORA-08103", "ORA-08176", "ORA-08177",  # old snapshot
    "ORA-02391", "ORA-02396", "ORA-02399", "ORA-00028", "ORA-01012", "ORA-00031",  # limits of the profile, killed
    "ORA-03113", "ORA-03114", "ORA-03135", "ORA-04021", "ORA-04031", "ORA-04036", "ORA-04068", "ORA-25408",
    "ORA-12170", "ORA-12514", "ORA-12516", "ORA-12518", "ORA-12519", "ORA-12520", "ORA-12528", "ORA-12537",
    "ORA-12541", "ORA-12543", "ORA-12547", "ORA-12560", "ORA-12570", "ORA-12571", "ORA-12757", "ORA-12801",
}  # fmt: skip
DATA = {
    "DPY-4002", "DPY-4003", "DPY-4004", "DPY-4036", "DPY-4037", "DPY-4038", "DPY-4039", "DPY-4040", "DPY-4042",
    "DPY-8000", "DPY-8002",
    "ORA-01403", "ORA-01422", "ORA-01426", "ORA-01427", "ORA-01438", "ORA-01455", "ORA-01457", "ORA-01476",
    "ORA-01722", "ORA-01830", "ORA-01841", "ORA-01843", "ORA-01847", "ORA-01858", "ORA-01861", "ORA-01873",
    "ORA-06502", "ORA-12899", "ORA-22835", "ORA-29275", "ORA-40441",
}  # fmt: skip
NO_VALUES = re.compile(r"ORA-(009\d\d|01017|01031|01045|04043|12\d\d\d|280\d\d|0103[34]|01089|01555|03113|03135)|DPY-6")
"""Codes whose messages quote names of the database's objects and hosts, and no values."""
USER_ERROR = re.compile(r"ORA-20\d\d\d")
WRAPPERS = {"ORA-00604", "ORA-12801"}
"""Errors of recursive SQL and of parallel servers: what went wrong stands behind them."""
CODE = re.compile(r"ORA-\d{5}")


def connecting(error: Exception, engine: Engine, password: str) -> ExtractionError:
    """The error for a session that could not be opened; the driver raises some of the socket's own."""
    if isinstance(error, OSError):
        lasting = isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN
        kind = ConfigurationError if lasting else TransientError
        return kind(f"{engine}: cannot connect: {error.strerror or 'no answer'}")
    code, text = _parts(error)
    if password:
        text = text.replace(password, "***")
    transient = code in TRANSIENT and "certificate" not in text.lower()
    return (TransientError if transient else ConfigurationError)(f"{engine}: cannot connect: {text}")


def querying(error: Exception, engine: Engine, seconds: float) -> ExtractionError:
    """The error for a statement that failed after so many seconds."""
    if isinstance(error, OSError):
        return TransientError(f"{engine}: the connection to the server was lost")
    code, text = _parts(error)
    if code in TIMEOUTS and seconds >= engine.limits.statement_timeout_s * 0.9:
        return engine.timed_out()
    return _kind(code)(f"{engine}: {_scrubbed(code, text)}")


def _kind(code: str) -> type[ExtractionError]:
    if code in TRANSIENT:
        return TransientError
    return DataError if code in DATA else ConfigurationError


def _parts(error: Exception) -> tuple[str, str]:
    """The code of what went wrong (ORA-00942, DPY-4011), and the message without the driver's links to help pages."""
    details: Any = error.args[0] if error.args else error
    message = str(getattr(details, "message", None) or details)
    lines = [line for line in message.splitlines() if line.strip() and not line.startswith("Help:")]
    code, text = str(getattr(details, "full_code", "")), " ".join(lines)
    if code in WRAPPERS:
        code = next((found for found in CODE.findall(text) if found not in WRAPPERS), code)
    return code, text


def _scrubbed(code: str, text: str) -> str:
    """The text without what can be a value: where it may hold one, the code and the words before it."""
    if USER_ERROR.search(f"{code} {text}"):
        return f"{code}: a function of the database raised an error"
    if code.startswith("DPY-4") and code in DATA:
        return f"{code}: a value has no exact form in the type of its column"
    if NO_VALUES.match(code):
        return text
    return re.sub(r"(['\"]).*\1", "'...'", text)
