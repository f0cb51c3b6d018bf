"""Which transactions of an Oracle database may still write, on all of its instances."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from include.etl.engines.base import Writer, Writers, identified
from include.etl.engines.wall_clock import begun
from include.etl.errors import ConfigurationError

NOW = """select sys_extract_utc(systimestamp), sys_context('userenv', 'database_role'),
extract(timezone_hour from systimestamp) * 60 + extract(timezone_minute from systimestamp) from dual"""
# A transaction begins with its first write: INSERT ... SELECT systimestamp that sorts for minutes is only a statement.
# Running INSERT, UPDATE, DELETE and MERGE are asked for first; what has begun to write meanwhile is a transaction.
STATEMENTS = """select inst_id, sid, serial#, username, machine, program,
coalesce(round((sysdate - sql_exec_start) * 86400), last_call_et)
from gv$session where status = 'ACTIVE' and type = 'USER' and command in (2, 6, 7, 189)"""
# Read-only transactions have no undo and are not listed. Begin times are the server's local ones: their age is taken.
TRANSACTIONS = """select s.inst_id, s.sid, s.serial#, s.username, s.machine, s.program,
round((sysdate - t.start_date) * 86400)
from gv$transaction t left join gv$session s on s.inst_id = t.inst_id and s.saddr = t.ses_addr"""

HIDDEN = "the account may not see other sessions; grant it select on sys.gv_$transaction and sys.gv_$session"
STANDBY = "this database is a standby, and its writers are on its primary"


def writers(rows: Callable[[str], list[tuple[Any, ...]]]) -> Writers:
    """Transactions that have written, and running statements that will; who has only taken the time is not known."""
    ((now, role, offset_min),) = rows(NOW)
    moment = now.replace(tzinfo=UTC)
    if str(role).upper() != "PRIMARY":
        return Writers(moment, unseen=STANDBY)
    try:
        found = [*rows(STATEMENTS), *rows(TRANSACTIONS)]
    except ConfigurationError:  # ORA-00942: no such view, as far as this account can tell
        return Writers(moment, unseen=HIDDEN)
    return Writers(moment, [_writer(moment, timedelta(minutes=int(offset_min)), *row) for row in found])


def _writer(
    now: datetime,
    offset: timedelta,
    instance: int | None,
    sid: int | None,
    serial: int | None,
    user: str | None,
    machine: str | None,
    program: str | None,
    age_s: int,
) -> Writer:
    place = f"{sid},{serial},@{instance}" if sid is not None else None
    session = identified(session=place, user=user, machine=machine, program=program)
    since = begun(now, offset, timedelta(seconds=int(age_s)))
    return Writer(since, session or "a transaction without session (see DBA_2PC_PENDING)", begun_earlier=sid is None)
