"""Which relations a PostgreSQL session has opened, by its own locks, and whether its snapshot shows what they hold.

A statement takes its snapshot before it opens its tables, and may wait for them in between. What was truncated,
rewritten or swapped meanwhile is read as the new file, in which the snapshot sees no row. So the tables of a query are
locked before there is a snapshot; and all that was opened, also what cannot be locked (materialised views, tables that
functions read), is compared with the snapshot's catalogue after that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

LOCK = "lock table {} in access share mode"
FULL = "53200"
"""SQLSTATE where the server has no room for more locks."""

# A relation's lock is held until the transaction ends. What is below 16384 is the server's own. The functions see the
# catalogue as it is now, and the tables beside them as the snapshot has it.
_OPENED = """(
    select distinct l.relation from pg_locks l where l.pid = pg_backend_pid() and l.locktype = 'relation'
    and l.database = (select oid from pg_database where datname = current_database()) and l.relation >= 16384
) l cross join lateral pg_identify_object('pg_class'::regclass, l.relation, 0) i
left join (pg_class c join pg_namespace n on n.oid = c.relnamespace) on c.oid = l.relation"""
CHANGED = f"""select i.identity from {_OPENED}
where i.type in ('table', 'materialized view', 'foreign table', 'view') and (
    (c.oid is null and not (%s and coalesce(pg_partition_root(l.relation) <> l.relation, false)))
    or i.identity <> quote_ident(n.nspname) || '.' || quote_ident(c.relname)
    or c.relfilenode <> coalesce(pg_relation_filenode(c.oid), 0)
    or (not c.relispartition and pg_partition_root(c.oid) <> c.oid)
) order by 1"""
RESOLVED = """select c.relname, n.nspname from unnest(%s::text[]) name join pg_class c on c.oid = to_regclass(name)
join pg_namespace n on n.oid = c.relnamespace where pg_table_is_visible(c.oid)"""
ABSENT = "select name from unnest(%s::text[]) name where to_regclass(name) is null"
LOOSE = """select n.nspname || '.' || c.relname from unnest(%s) name join pg_class c on c.oid = to_regclass(name)
join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'v' or (c.relkind in ('r', 'f') and c.relhassubclass) order by 1"""
# A partition's row type is as old as the table, its place below another one as old as the ATTACH.
RELATIONS = f"""select n.nspname, c.relname, c.relkind,
    p.inhrelid is not null,
    t.xmin <> p.xmin and (c.relkind = 'p' or pg_relation_size(c.oid) > 0), c.relrowsecurity, s.srvname, w.fdwname,
    case when c.relkind = 'v' then pg_get_viewdef(c.oid) end
from {_OPENED} left join pg_type t on t.oid = c.reltype
left join lateral (select inhrelid, xmin from pg_inherits where inhrelid = c.oid limit 1) p on true
left join pg_foreign_table f on f.ftrelid = c.oid left join pg_foreign_server s on s.oid = f.ftserver
left join pg_foreign_data_wrapper w on w.oid = s.srvfdw
where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not like 'pg\\_%%' order by 1, 2"""


class Relation(NamedTuple):
    """Something that the session has opened to read from."""

    schema: str
    bare_name: str
    kind: str
    """As pg_class.relkind has it."""
    below: bool
    """It is a partition, or inherits from another table."""
    attached: bool
    """It was a table of its own before, and holds something."""
    row_security: bool
    server: str | None = None
    wrapper: str | None = None
    definition: str | None = None
    """Of a view."""

    @property
    def name(self) -> str:
        """With its schema."""
        return f"{self.schema}.{self.bare_name}"


def named(sql: str) -> list[str]:
    """The tables and views that the query names, as it writes them; nothing of a query that cannot be parsed."""
    try:
        parsed = sqlglot.parse_one(sql, dialect="postgres")
    except SqlglotError:
        return []  # the server will say what is wrong with it
    found = [table for table in parsed.find_all(exp.Table) if isinstance(table.this, exp.Identifier)]
    paths = [".".join(part.sql("postgres") for part in table.parts) for table in found]
    return list(dict.fromkeys(paths))


def changed(cursor: Any, *, locked: bool) -> list[str]:
    """What was opened and is not what the snapshot has: rewritten, replaced by another, or attached since.

    Of a table that was locked before the snapshot, partitions that were made after it have no row that it shows.
    """
    cursor.execute(CHANGED, (locked,))
    return [name for (name,) in cursor.fetchall()]


def not_locked(cursor: Any, names: Collection[str]) -> list[str]:
    """What has no comparison with the snapshot either: a view's text, and the children of a table."""
    if not names:
        return []
    cursor.execute(LOOSE, (list(names),))
    return [
        f"{name} could not be locked before it is read, as the account may read some columns only: rows may be missing "
        "where it is replaced in that moment; grant SELECT on all of it"
        for (name,) in cursor.fetchall()
    ]


def resolved(cursor: Any, names: Collection[str]) -> dict[str, str]:
    """Relations that the query names without a schema, and the schemas that they were found in."""
    cursor.execute(RESOLVED, (list(names),))
    return dict(cursor.fetchall())


def absent(cursor: Any, names: Collection[str]) -> set[str]:
    """Names that stand for no relation: those of WITH clauses, and wrong ones."""
    cursor.execute(ABSENT, (list(names),))
    return {name for (name,) in cursor.fetchall()}


def relations(cursor: Any) -> Sequence[Relation]:
    """All that was opened so far, by name."""
    cursor.execute(RELATIONS)
    return [Relation(*row) for row in cursor.fetchall()]
