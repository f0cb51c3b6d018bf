"""PostgreSQL's errors in terms of what to do next, without row data."""

from __future__ import annotations

import re

import psycopg2

from include.etl.engines.base import Engine
from include.etl.errors import ConfigurationError, DataError, ExtractionError, TransientError

# Classes and codes of SQLSTATE: connection lost, transaction rolled back, resources, intervention, I/O; then locks.
TRANSIENT = ("08", "40", "53", "57", "58", "55P03", "25P03", "25P04")
OF_THE_SERVER = {"25006", "40001", "40P01", "53200", "53300", "55P03", "57014", "57P01", "57P02", "57P03"}
"""Errors about the session or the server's state, whose messages hold no values."""
OF_THE_QUERY = {
    "28000", "28P01", "3D000", "3F000", "42501", "42601", "42702", "42703", "42704", "42803", "42804", "42883", "42P01",
    "42P09",
}  # fmt: skip
"""Errors that quote names: those of the query while it is parsed, and values while it runs (`name::regclass`)."""

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


def querying(error: psycopg2.Error, engine: Engine, seconds: float, *, reading_rows: bool) -> ExtractionError:
    """The error for a statement that failed after so many seconds, before or while it read rows."""
    state = error.pgcode or ""
    if state == "57014" and seconds >= engine.limits.statement_timeout_s * 0.9:
        return engine.timed_out()
    if error.diag.source_function == "check_enable_rls":
        return _of_policy(error, engine)
    if not state:
        return TransientError(f"{engine}: the connection to the server was lost")
    return _kind(state)(f"{engine}: {_message(error, state, reading_rows)} (SQLSTATE {state})")


def _of_policy(error: psycopg2.Error, engine: Engine) -> ConfigurationError:
    """The server's message names the table, in its own language; that it is this error tells where it was raised."""
    return ConfigurationError(
        f"{engine}: a policy (row-level security) would hide rows from this account: "
        f"{_first_line(error.diag.message_primary or '')}. Give the account BYPASSRLS, or, where only the rows that "
        "the policy shows are wanted, set extract.row_security: apply"
    )


def _kind(state: str) -> type[ExtractionError]:
    if state.startswith(TRANSIENT):
        return TransientError
    return DataError if state.startswith(("21", "22", "23")) else ConfigurationError


def _message(error: psycopg2.Error, state: str, reading_rows: bool) -> str:
    """The server's primary message where it can hold no value; otherwise only what kind of error it is.

    A function of the database can raise any message under any code; the context, in the server's language, tells
    that there was one.
    """
    text = _first_line(error.diag.message_primary or "")
    shown = OF_THE_SERVER if reading_rows else OF_THE_SERVER | OF_THE_QUERY
    if error.diag.context or state not in shown:
        return f"the server reports {type(error).__name__}"
    if state == "42601":  # a syntax error quotes the token it met, which may be a parameter
        return re.sub(r"\"[^\"]*['\d][^\"]*\"", '"..."', text)
    return re.sub(r"'[^']*'", "'...'", text)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
