"""Which transactions of a PostgreSQL database may still write.

One that has not written yet may still do so, and one that began read-only cannot be told from it: both count.
"""

from __future__ import annotations

from typing import Any

from include.etl.engines.base import OWN, Writer, Writers, identified

# A standby is behind its primary: what it has not replayed yet is older than its clock.
# One that was started again has replayed nothing, and knows how far it is by its last restartpoint.
NOW = """select case when pg_is_in_recovery() then least(clock_timestamp(),
coalesce(pg_last_xact_replay_timestamp(), (select checkpoint_time from pg_control_checkpoint())))
else clock_timestamp() end, pg_is_in_recovery(), pg_stat_clear_snapshot()"""
# Also one that is disabled or has failed, whose rows are still to come.
SUBSCRIBED = """select exists (select from pg_subscription
where subdbid = (select oid from pg_database where datname = current_database()))"""
# What an account without pg_read_all_stats sees of others is a pid, two names, and no state. `track_activities = off`
# hides a session from everyone. Own readers are READ ONLY, which no other session shows.
SESSIONS = f"""select pid, usename, application_name, xact_start,
query = '<insufficient privilege>' or state = 'disabled', coalesce(backend_type like 'logical replication%%', false)
from pg_stat_activity where datid = (select oid from pg_database where datname = current_database())
and pid <> pg_backend_pid() and usesysid is not null
and coalesce(backend_type, '') not in ('autovacuum worker', 'walsender', 'parallel worker')
and not (usename = session_user and application_name like '{OWN}%%')"""
PREPARED = "select gid, owner, prepared from pg_prepared_xacts where database = current_database()"

STANDBY = "this server is a standby, and its writers are on its primary"
SUBSCRIBER = "rows arrive by logical replication, long after they were written elsewhere"
HIDDEN = "the account may not see other sessions; grant it pg_monitor (or pg_read_all_stats)"


def writers(cursor: Any) -> Writers:
    """Open transactions of the cursor's database, prepared ones too."""
    cursor.execute(NOW)
    ((now, standby, _),) = cursor.fetchall()
    cursor.execute(SUBSCRIBED)
    ((subscribed,),) = cursor.fetchall()
    cursor.execute(SESSIONS)
    sessions = cursor.fetchall()
    cursor.execute(PREPARED)
    found = [
        Writer(since, identified(pid=pid, user=user, application=application))
        for pid, user, application, since, *_ in sessions
        if since is not None
    ]
    found += [
        Writer(prepared, identified(prepared_transaction=gid, user=owner), begun_earlier=True)
        for gid, owner, prepared in cursor.fetchall()
    ]
    hidden, replicated = any(row[4] for row in sessions), subscribed or any(row[5] for row in sessions)
    unseen = STANDBY if standby else SUBSCRIBER if replicated else HIDDEN if hidden else ""
    return Writers(now, found, unseen)
