"""Which transactions of a MySQL or MariaDB server may still write.

InnoDB lists a transaction from its first access to a table. A statement stamps rows with the time at which it began,
which may be long before that, while it waits for a lock on its table: the list of threads has such statements.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from include.etl.engines.base import OWN, Writer, Writers, identified
from include.etl.engines.batches import Row
from include.etl.engines.wall_clock import begun
from include.etl.errors import ConfigurationError

NOW = "select utc_timestamp(6), connection_id()"
READ_ONLY = "show global variables where variable_name in ('read_only', 'innodb_read_only')"
"""The second one tells a reader of Aurora, which shares its writer's storage and has no thread of replication."""
OFF = ("0", "OFF")
# Read-only transactions cannot write; this session's own is asked for too, see _transactions.
TRANSACTIONS = """select trx_mysql_thread_id, trx_started from information_schema.innodb_trx
where trx_autocommit_non_locking = 0 and (trx_is_read_only = 0 or trx_mysql_thread_id = connection_id())"""
THREADS = f"""select id, user, host, command, time,
coalesce(info like '/* {OWN}%' or info regexp '^[[:space:]]*(select|show|explain|describe)[[:space:]]', 0)
from information_schema.processlist
where id <> connection_id() and user not in ('unauthenticated user', 'event_scheduler')"""
IDLE = ("Sleep", "Daemon", "Binlog Dump", "Binlog Dump GTID")
"""Not `Connect`: the scheduler's events have it while they run."""
SYSTEM = "system user"
QUARTER_S = 900
"""Time zones differ by whole quarters of an hour."""
REFRESHED_S, TRIES = 0.15, 10
"""The server renews its list when nobody has read it for a tenth of a second."""

HIDDEN = "the account may not see other sessions; grant it PROCESS"
REPLICA = "this server is a replica or in a cluster, and its writers are on other servers too"
STALE = "the server's list of transactions is read so often by others that it is never renewed"

Thread = tuple[str, str, str, int, bool]
"""User, host, command, seconds since it began, whether it only reads."""


def writers(ask: Callable[[str], list[Row]]) -> Writers:
    """Open transactions and running statements of the server: one may write to tables of any database."""
    ((text, number),) = ask(NOW)
    # A replica that stands still has no thread to be known by.
    elsewhere = {_text(value).upper() for _, value in ask(READ_ONLY)} - set(OFF)
    now, own = _moment(text), int(number)
    # Before the transactions: a statement whose wait ends meanwhile is a transaction by then, not in neither list.
    threads = {int(number): _thread(*others) for number, *others in ask(THREADS)}
    try:
        transactions = _transactions(ask, own)
    except ConfigurationError:  # access denied
        return Writers(now, unseen=HIDDEN)
    if own not in transactions:
        return Writers(now, unseen=STALE)
    began = transactions.pop(own)
    offset = timedelta(seconds=round((began - now).total_seconds() / QUARTER_S) * QUARTER_S)
    found = [
        Writer(
            begun(now, offset, now + offset - started), _session(number, threads.get(number)), begun_earlier=number <= 0
        )
        for number, started in transactions.items()
    ]
    found += [
        Writer(now - timedelta(seconds=seconds), _session(number, threads[number]))
        for number, (user, _, command, seconds, reads) in threads.items()
        if command not in IDLE and user != SYSTEM and not reads
    ]
    replica = any(user == SYSTEM and command != "Daemon" for user, _, command, _, _ in threads.values())
    return Writers(began - offset, found, REPLICA if replica or elsewhere else "")


def _transactions(ask: Callable[[str], list[Row]], own: int) -> dict[int, datetime]:
    """Thread -> when its transaction began, in the server's time zone and whole seconds; below 1 without a thread.

    This session's own one shows what that zone is, and that the list is not older than this session.
    """
    found: dict[int, datetime] = {}
    for attempt in range(TRIES):
        time.sleep(REFRESHED_S if attempt else 0)
        rows = [(int(thread), _moment(started)) for thread, started in ask(TRANSACTIONS)]
        found = {thread or -place: started for place, (thread, started) in enumerate(rows)}
        if own in found:
            break
    return found


def _session(number: int, thread: Thread | None) -> str:
    """A transaction without thread was prepared (XA), and its session has ended."""
    if thread is None:
        return identified(thread=number) if number > 0 else "a prepared XA transaction (see XA RECOVER)"
    return identified(thread=number, user=thread[0], host=thread[1])


def _thread(user: Any, host: Any, command: Any, seconds: Any, reads: Any) -> Thread:
    return _text(user), _text(host), _text(command), int(float(_text(seconds or b"0"))), bool(int(reads))


def _moment(text: Any) -> datetime:
    return datetime.fromisoformat(_text(text)).replace(tzinfo=UTC)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
