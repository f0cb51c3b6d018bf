"""Where the rows of a SQL Server query come from, and whether the login is shown all of them, by the catalogue."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import sqlglot
from sqlglot import exp

from include.etl.engines.base import Origins
from include.etl.engines.mssql_sql import quoted, text
from include.etl.engines.origins import Path, dotted, reading, select_of
from include.etl.errors import ConfigurationError

Ask = Callable[[str], list[tuple[Any, ...]]]

# Names are compared without case: that of the query was folded when it was read.
FOUND = """select c.name, o.name, rtrim(o.type), m.definition, s.base_object_name, coalesce(t.is_external, 0)
from {place}sys.objects o join {place}sys.schemas c on c.schema_id = o.schema_id
left join {place}sys.sql_modules m on m.object_id = o.object_id
left join {place}sys.synonyms s on s.object_id = o.object_id left join {place}sys.tables t on t.object_id = o.object_id
where o.type in ('U', 'V', 'SN') and o.name collate Latin1_General_100_CI_AS = {name}
and c.name collate Latin1_General_100_CI_AS in ({schemas})
order by case when c.name = schema_name() then 0 else 1 end"""
OBJECTS = "select {}"
PERMISSIONS = """select case when 1 in (has_perms_by_name(db_name(), 'DATABASE', 'VIEW DEFINITION'),
has_perms_by_name(db_name(), 'DATABASE', 'VIEW SECURITY DEFINITION'),
has_perms_by_name(db_name(), 'DATABASE', 'ALTER ANY SECURITY POLICY')) then 1 else 0 end,
coalesce(has_perms_by_name(db_name(), 'DATABASE', 'UNMASK'), 0)"""
POLICIES = """select c.name, o.name from sys.security_policies p
join sys.security_predicates f on f.object_id = p.object_id and f.predicate_type_desc = 'FILTER'
join sys.objects o on o.object_id = f.target_object_id join sys.schemas c on c.schema_id = o.schema_id
where p.is_enabled = 1"""
MASKED = """select c.name, o.name, m.name from sys.masked_columns m join sys.objects o on o.object_id = m.object_id
join sys.schemas c on c.schema_id = o.schema_id where m.is_masked = 1"""
REMOTE = re.compile(r"\bopen(query|rowset|datasource)\s*\(", re.IGNORECASE)
BUILT_IN = {"sys", "information_schema"}

LINKED = "{name} stands for {base}, a table of a linked server: its writers are not among this server's transactions"
AWAY = "{name} is an external table: its rows are not written by transactions of this server"
OPENED = (
    "view {name} reads another server (OPENQUERY, OPENROWSET): its writers are not among this server's transactions"
)
HIDDEN_VIEW = "what view {name} reads is not shown to this login; grant it VIEW DEFINITION"
UNKNOWN = "the catalogue shows this login no table {name}: where its rows come from is not known"
NOT_TOLD = "the server's catalogue does not tell where rows come from: {}"
POLICY = "a security policy (row-level security) filters {name}: which rows it hides from this login cannot be told"
MASK = "{name}: this login is shown masks instead of the values of {columns}"
NOT_SEEN = (
    "this login may not see security policies, so it is not known whether one hides rows; grant it VIEW DEFINITION "
    "(VIEW SECURITY DEFINITION from version 2022)"
)
OTHER_DATABASE = (
    "{name} lies in another database: whether policies or masks of that one hide something was not looked at"
)


class Found(NamedTuple):
    """What a name of the query, or of a view, stands for."""

    database: str
    schema: str
    name: str
    kind: str
    definition: str | None
    base: str | None
    external: bool

    @property
    def full(self) -> str:
        """With its schema, and its database where it is not the session's own."""
        return dotted([part for part in (self.database, self.schema, self.name) if part])  # type: ignore[arg-type]


def origins(ask: Ask, sql: str, who: object, row_security: Literal["refuse", "apply"]) -> Origins:
    """What the SELECT reads, through views and synonyms.

    Raises:
        ConfigurationError: a policy or a mask hides something, and the source's YAML does not want that.
    """
    catalogue = _Catalogue(ask)
    try:
        caveats = [*reading(sql, "tsql", catalogue.definition).caveats, *catalogue.caveats]
        ((permitted, unmasked),) = ask(PERMISSIONS)
        hidden = [*_filtered(ask, catalogue), *(() if unmasked else _masked(ask, catalogue, sql))]
    except ConfigurationError as error:  # another maker's server, which lacks some of the views
        return Origins(unchecked=[NOT_TOLD.format(error)])
    if hidden and row_security == "refuse":
        raise ConfigurationError(
            f"{who}: {'; '.join(hidden)}. Nothing was read; let the login see everything (GRANT UNMASK, no policy for "
            "it), or set extract.row_security: apply if what it is shown is wanted"
        )
    unchecked = [OTHER_DATABASE.format(name=one.full) for one in catalogue.found if one.database]
    return Origins(
        relations=[one.full for one in catalogue.found],
        elsewhere="; ".join(catalogue.elsewhere),
        caveats=caveats,
        unchecked=unchecked if permitted else [NOT_SEEN, *unchecked],
        hidden=hidden,
    )


def objects(ask: Ask, relations: list[str]) -> dict[str, int | None]:
    """The number of the object that each name stands for at this moment: metadata is not versioned."""
    if not relations:
        return {}
    asked = (f"object_id({text('.'.join(map(quoted, name.split('.'))))})" for name in relations)
    (row,) = ask(OBJECTS.format(", ".join(asked)))
    return dict(zip(relations, row, strict=True))


class _Catalogue:
    """What it says of the relations that it was asked about."""

    def __init__(self, ask: Ask) -> None:
        self.found: list[Found] = []
        self.elsewhere: list[str] = []
        self.caveats: list[str] = []
        self._ask = ask

    @property
    def mine(self) -> list[Found]:
        """What lies in the session's own database."""
        return [one for one in self.found if not one.database]

    def definition(self, path: Path) -> str | None:
        """The SELECT that a view or a synonym stands for; None for anything else."""
        one = self._look_up(path)
        if one is None:
            return None
        self.found.append(one)
        if one.base is not None:
            return self._synonym(one, one.base)
        if one.external:
            self.elsewhere.append(AWAY.format(name=one.full))
        return self._view(one) if one.kind == "V" else None

    def _look_up(self, path: Path) -> Found | None:
        *before, name = path
        schema = before[-1] if before else ""
        if schema.lower() in BUILT_IN:
            return None
        if len(path) > 3:
            self.elsewhere.append(LINKED.format(name=dotted(path), base="itself"))
            return None
        database = before[0] if len(before) > 1 else ""
        place = f"{quoted(database)}." if database else ""
        schemas = text(schema) if schema else "schema_name(), N'dbo'"
        rows = self._ask(FOUND.format(place=place, name=text(name), schemas=schemas))
        if not rows:
            self.caveats.append(UNKNOWN.format(name=dotted(path)))
            return None
        owner, found, kind, definition, base, external = rows[0]
        return Found(database, str(owner), str(found), str(kind), definition, base, bool(external))

    def _synonym(self, one: Found, base: str) -> str | None:
        if len(exp.to_table(base, dialect="tsql").parts) > 3:
            self.elsewhere.append(LINKED.format(name=one.full, base=base))
            return None
        return f"select * from {base}"

    def _view(self, one: Found) -> str | None:
        if one.definition is None:
            self.caveats.append(HIDDEN_VIEW.format(name=one.full))
            return None
        if REMOTE.search(one.definition):
            self.elsewhere.append(OPENED.format(name=one.full))
        return select_of(one.definition, "tsql", one.schema)


def _filtered(ask: Ask, catalogue: _Catalogue) -> Iterator[str]:
    """Tables whose rows are not shown to everybody."""
    filtered = set(ask(POLICIES))
    yield from (POLICY.format(name=one.full) for one in catalogue.mine if (one.schema, one.name) in filtered)


def _masked(ask: Ask, catalogue: _Catalogue, sql: str) -> Iterator[str]:
    """Columns that are read, and whose values are not shown to this login."""
    masked = [(place, str(column)) for *place, column in ask(MASKED)]
    for one in catalogue.mine:
        columns = [column for place, column in masked if place == [one.schema, one.name]]
        if read := [column for column in columns if _is_read(column, sql, catalogue)]:
            yield MASK.format(name=one.full, columns=", ".join(read))


def _is_read(column: str, sql: str, catalogue: _Catalogue) -> bool:
    """Whether the query, or a view below it, may read the column: by its name, or with all others."""
    texts = [sql, *(select_of(one.definition, "tsql", one.schema) for one in catalogue.found if one.definition)]
    parsed = [sqlglot.parse_one(one, dialect="tsql") for one in texts if one]
    nodes = [node for tree in parsed for node in tree.find_all(exp.Star, exp.Column)]
    return any(isinstance(node, exp.Star) or node.name.lower() == column.lower() for node in nodes)
