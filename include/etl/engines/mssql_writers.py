"""Which transactions of a SQL Server may still write: as its management views list them, of any database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from include.etl.engines.base import Engine, RowVersions, Writer, Writers, identified
from include.etl.engines.wall_clock import begun
from include.etl.errors import ConfigurationError

MARK = "0x6D6F682D65746C"
"""What a session of this system writes into its context (moh-etl): it rolls back whatever it does."""

# Permissions that a version does not know are NULL, which IN passes over.
NOW = """select cast(sysutcdatetime() as datetime), case when 1 in (has_perms_by_name(null, null, 'VIEW SERVER STATE'),
has_perms_by_name(null, null, 'VIEW SERVER PERFORMANCE STATE')) then 1 else 0 end,
case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then 1 else 0 end,
datepart(tz, sysdatetimeoffset())"""
# 1: reads and writes, 4: distributed; a distributed one whose session has ended has none. Times are the server's local
# ones, so their age is taken. A state of 6 or 8 has ended.
TRANSACTIONS = f"""select s.session_id, s.login_name, s.host_name, s.program_name,
datediff(second, t.transaction_begin_time, sysdatetime())
from sys.dm_tran_active_transactions as t
left join sys.dm_tran_session_transactions as st on st.transaction_id = t.transaction_id
left join sys.dm_exec_requests as r on r.transaction_id = t.transaction_id
left join sys.dm_exec_sessions as s on s.session_id = coalesce(st.session_id, r.session_id)
where t.transaction_type in (1, 4) and t.transaction_state not in (6, 8)
and (s.is_user_process = 1 or (s.session_id is null and t.transaction_type = 4))
and coalesce(s.session_id, 0) <> @@spid
and not (s.session_id is not null and s.login_name = original_login()
and coalesce(substring(s.context_info, 1, 7), 0x) = {MARK})"""

ROW_VERSIONS = """select cast(@@dbts as bigint) + 1, cast(min_active_rowversion() as bigint),
case when databasepropertyex(db_name(), 'Updateability') = 'READ_ONLY' then 1 else 0 end"""

HIDDEN = (
    "the login may not see other sessions; grant it VIEW SERVER STATE (VIEW SERVER PERFORMANCE STATE from version 2022)"
)
NOT_LISTED = "the server does not list its transactions in sys.dm_tran_active_transactions"
SECONDARY = "this database is a read-only replica, and its writers are on the primary"


def writers(rows: Callable[[str], list[tuple[Any, ...]]]) -> Writers:
    """Open transactions of the server: one may write to any of its databases."""
    ((now, permitted, secondary, offset_min),) = rows(NOW)
    moment = now.replace(tzinfo=UTC)
    if secondary or not permitted:
        return Writers(moment, unseen=SECONDARY if secondary else HIDDEN)
    try:
        found = rows(TRANSACTIONS)
    except ConfigurationError:  # another maker's server has not all of these views
        return Writers(moment, unseen=NOT_LISTED)
    return Writers(moment, [_writer(moment, timedelta(minutes=int(offset_min)), *row) for row in found])


def row_versions(rows: Callable[[str], list[tuple[Any, ...]]], engine: Engine) -> RowVersions:
    """Where the counter of this database stands; on a replica nobody knows what the primary's writers hold."""
    ((following, decided, secondary),) = rows(ROW_VERSIONS)
    if secondary:
        raise ConfigurationError(f"{engine}: cursor.type: 'rowversion': {SECONDARY}; read the primary")
    return RowVersions(int(following), min(int(following), int(decided)))


def _writer(
    now: datetime, offset: timedelta, number: int | None, login: str, host: str, program: str, age_s: int
) -> Writer:
    session = identified(session_id=number, login=login, host=host, program=program)
    since = begun(now, offset, timedelta(seconds=int(age_s)))
    return Writer(since, session or "a distributed transaction without session", begun_earlier=number is None)
