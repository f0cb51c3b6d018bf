"""PostgreSQL's errors in terms of what to do next, without row data."""

from __future__ import annotations

import re

import psycopg2

from include.etl.engines.base import Engine
from include.etl.errors import ConfigurationError, DataError, ExtractionError, TransientError

# Classes and codes of SQLSTATE: connection lost, transaction rolled back, resources, intervention, I/O; then locks.
TRANSIENT = ("08", "40", "53", "57", "58", "55P03", "25P03", "25P04")
NAMES_ONLY = ("08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58")
"""Classes whose messages quote names of the database's objects, and no values."""

# Without a session there is no SQLSTATE, only text; what is not listed here may pass (refused, starting up, timeout).
HOPELESS = re.compile(
    r"authentication|does not exist|no pg_hba\.conf entry|no password supplied|permission denied|not permitted"
    r"|Name or service not known|nodename nor servname|No address associated|not known"
    r"|certificate|SSL|invalid",
    re.IGNORECASE,
)
SSL_BROKEN = re.compile(r"SSL (SYSCALL error|connection has been closed)", re.IGNORECASE)


def connecting(error: psycopg2.Error, engine: Engine, password: str) -> ExtractionError:
    """The error for a session that could not be opened."""
    text = _first_line(str(error))
    if password:
        text = text.replace(password, "***")
    bare = re.sub(r'"[^"]*"', "", text)  # without names of hosts, users and databases, which can be any words
    hopeless = isinstance(error, psycopg2.ProgrammingError) or (HOPELESS.search(bare) and not SSL_BROKEN.search(bare))
    kind = ConfigurationError if hopeless else TransientError
    return kind(f"{engine}: cannot connect: {text}")


def querying(error: psycopg2.Error, engine: Engine, seconds: float) -> ExtractionError:
    """The error for a statement that failed after so many seconds."""
    state = error.pgcode or ""
    if state == "57014" and seconds >= engine.limits.statement_timeout_s * 0.9:
        return engine.timed_out()
    if not state:
        return TransientError(f"{engine}: the connection to the server was lost")
    return _kind(state)(f"{engine}: {_message(error, state)} (SQLSTATE {state})")


def _kind(state: str) -> type[ExtractionError]:
    if state.startswith(TRANSIENT):
        return TransientError
    return DataError if state.startswith(("21", "22", "23")) else ConfigurationError


def _message(error: psycopg2.Error, state: str) -> str:
    """The server's primary message with everything removed that can be a value."""
    text = _first_line(error.diag.message_primary or "")
    if state == "42601":  # a syntax error quotes the token it met, which may be a parameter
        return re.sub(r"\"[^\"]*['\d][^\"]*\"", '"..."', text)
    if state.startswith(NAMES_ONLY):
        return re.sub(r"'[^']*'", "'...'", text)
    if state.startswith("P0"):
        return "a function of the database raised an error"
    return re.sub(r"([\"']).*\1", '"..."', text)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
