"""Which relations a PostgreSQL session has opened, by its own locks, and whether its snapshot shows what they hold.

A statement takes its snapshot before it opens its tables, and may wait for them in between. What was truncated,
rewritten or swapped meanwhile is read as the new file, in which the snapshot sees no row. So the tables of a query are
locked before there is a snapshot; and all that was opened, also what cannot be locked (materialised views, tables that
functions read) or would take too many locks (partitions), is compared with the snapshot's catalogue after that.

All sessions of a server share its room for locks. So a session opens only those partitions that it reads; what else
there is below a table, the catalogue tells.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlglot.errors import SqlglotError

from include.etl.engines.origins import reading

LOCK = "lock table {} in access share mode"
MANY = "with the tables below it that takes more locks than max_locks_per_transaction"
COLUMNS = "the account may read some columns only"
FULL = "53200"
"""SQLSTATE where the server has no room for more locks."""
NOT_HAD = "55P03"
"""SQLSTATE where a lock was not had in time."""

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
LOOSE = """select n.nspname || '.' || c.relname, c.relkind = 'v' and has_table_privilege(c.oid, 'select')
from unnest(%s) name join pg_class c on c.oid = to_regclass(name) join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'v' or (c.relkind in ('r', 'f') and c.relhassubclass) order by 1"""
# Of every name: the views that it stands for, what they read, and what lies below that, without opening any of it.
_BELOW = """with recursive below (root, oid, part) as (
    select r.name, c.oid, false from unnest(%s::text[]) r (name) join pg_class c on c.oid = to_regclass(r.name)
    union
    select b.root, n.oid, n.part from below b cross join lateral (
        select d.refobjid, false from pg_class v join pg_rewrite w on w.ev_class = v.oid
        join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
        and d.refclassid = 'pg_class'::regclass where v.oid = b.oid and v.relkind = 'v'
        union all
        select inhrelid, true from pg_inherits where inhparent = b.oid
    ) n (oid, part)
)"""
# LOCK goes down to the partitions of a view in any case. One transaction's share is what the server plans for it.
LOCKABLE = f"""{_BELOW} select b.root, c.relkind = 'p' from below b
join pg_class c on c.oid = to_regclass(b.root)
where c.relkind in ('r', 'p', 'v') and has_table_privilege(c.oid, 'select')
group by b.root, c.oid, c.relkind
having c.relkind <> 'v' or count(*) <= current_setting('max_locks_per_transaction')::int order by 1"""
# A system column is as old as the table, whatever was renamed since; its place below another one as old as the ATTACH.
RELATIONS = f"""{_BELOW}, found as (select oid, bool_and(part) as part from below where oid >= 16384 group by oid)
select n.nspname, c.relname, c.relkind, f.part,
    t.xmin <> p.xmin and (c.relkind = 'p' or pg_relation_size(c.oid) > 0), c.relrowsecurity, s.srvname, w.fdwname, c.oid
from found f join pg_class c on c.oid = f.oid join pg_namespace n on n.oid = c.relnamespace
left join pg_attribute t on t.attrelid = c.oid and t.attnum = -1
left join lateral (select xmin from pg_inherits where inhrelid = c.oid limit 1) p on f.part
left join pg_foreign_table e on e.ftrelid = c.oid left join pg_foreign_server s on s.oid = e.ftserver
left join pg_foreign_data_wrapper w on w.oid = s.srvfdw
where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not like 'pg\\_%%' order by 1, 2"""
# Whoever is declared immutable reads nothing. What is below 16384 is the server's own.
FUNCTIONS = f"""{_BELOW}, called (oid) as (
    select d.refobjid from below b join pg_class v on v.oid = b.oid and v.relkind = 'v'
    join pg_rewrite w on w.ev_class = v.oid join pg_depend d on d.classid = 'pg_rewrite'::regclass
    and d.objid = w.oid and d.refclassid = 'pg_proc'::regclass
    union select p.oid from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where lower(n.nspname || '.' || p.proname) = any(%s::text[])
    or (lower(p.proname) = any(%s::text[]) and pg_function_is_visible(p.oid))
) select n.nspname || '.' || p.proname, bool_or(p.proretset) from called c join pg_proc p on p.oid = c.oid
join pg_namespace n on n.oid = p.pronamespace where p.oid >= 16384 and p.provolatile <> 'i' group by 1 order by 1"""
VIEWS = "select oid, pg_get_viewdef(oid) from pg_class where oid = any(%s::oid[]) and relkind = 'v'"


class Relation(NamedTuple):
    """Something that a query reads from."""

    schema: str
    bare_name: str
    kind: str
    """As pg_class.relkind has it."""
    below: bool
    """It is a partition, or inherits from another table; and nothing names it."""
    attached: bool
    """It was a table of its own before, and holds something."""
    row_security: bool
    server: str | None = None
    wrapper: str | None = None
    oid: int = 0

    @property
    def name(self) -> str:
        """With its schema."""
        return f"{self.schema}.{self.bare_name}"


def named(sql: str) -> list[str]:
    """The tables and views that the query names, quoted; nothing of a query that cannot be parsed."""
    try:
        found = reading(sql, "postgres").relations
    except SqlglotError:
        return []  # the server will say what is wrong with it
    return [".".join(quoted(part) for part in path) for path in found]


def quoted(name: str) -> str:
    """A name as it is written where nothing is to be folded."""
    return '"' + name.replace('"', '""') + '"'


def lockable(cursor: Any, names: Collection[str]) -> dict[str, str]:
    """The names that LOCK takes from this account, and how to lock each of them; asking this takes a snapshot."""
    cursor.execute(LOCKABLE, (list(names),))
    return {name: LOCK.format(f"only {name}" if partitioned else name) for name, partitioned in cursor.fetchall()}


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
        f"{name} could not be locked before it is read, as {MANY if granted else COLUMNS}: rows may be missing "
        f"where it is replaced in that moment{'' if granted else '; grant SELECT on all of it'}"
        for name, granted in cursor.fetchall()
    ]


def resolved(cursor: Any, names: Collection[str]) -> dict[str, str]:
    """Relations that the query names without a schema, and the schemas that they were found in."""
    cursor.execute(RESOLVED, (list(names),))
    return dict(cursor.fetchall())


def absent(cursor: Any, names: Collection[str]) -> set[str]:
    """Names that stand for no relation: those of WITH clauses, and wrong ones."""
    cursor.execute(ABSENT, (list(names),))
    return {name for (name,) in cursor.fetchall()}


def relations(cursor: Any, names: Collection[str]) -> Sequence[Relation]:
    """What these names stand for and what lies below, by name; nothing of it is opened."""
    cursor.execute(RELATIONS, (list(names),))
    return [Relation(*row) for row in cursor.fetchall()]


def definitions(cursor: Any, found: Sequence[Relation]) -> dict[int, str]:
    """What the views among them stand for."""
    cursor.execute(VIEWS, ([one.oid for one in found if one.kind == "v"],))
    return dict(cursor.fetchall())


def functions(cursor: Any, names: Collection[str], calls: Collection[str]) -> dict[str, bool]:
    """Those that are not built in, and whether rows come from them: of the calls, and in views below the names."""
    cursor.execute(FUNCTIONS, (list(names), list(calls), list(calls)))
    return dict(cursor.fetchall())
