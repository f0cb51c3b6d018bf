"""Where the rows of an Oracle query come from, and whether the account is shown all of them, by the catalogue."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from include.etl.engines.base import Origins
from include.etl.engines.origins import Path, dotted, reading, select_of
from include.etl.errors import ConfigurationError

Ask = Callable[[str, Mapping[str, Any]], list[tuple[Any, ...]]]

# A name is looked for in the schema, and among public synonyms last.
FOUND = """select owner, object_type from all_objects where object_name = :name
and object_type in ('TABLE', 'VIEW', 'MATERIALIZED VIEW', 'SYNONYM')
and owner in (coalesce(:owner, sys_context('userenv', 'current_schema')), case when :owner is null then 'PUBLIC' end)
order by case when owner = 'PUBLIC' then 1 else 0 end, object_type"""
SYNONYM = "select table_owner, table_name, db_link from all_synonyms where owner = :owner and synonym_name = :name"
VIEW = "select text from all_views where owner = :owner and view_name = :name"
EXTERNAL = "select type_name from all_external_tables where owner = :owner and table_name = :name"
PRIVILEGES = """select privilege from session_privs
where privilege in ('EXEMPT ACCESS POLICY', 'EXEMPT REDACTION POLICY') and :owner is null and :name is null"""
POLICIES = """select policy_name from all_policies
where object_owner = :owner and object_name = :name and sel = 'YES' and enable = 'YES'"""
REDACTED = "select column_name from redaction_columns where object_owner = :owner and object_name = :name"
LINK = re.compile(r"@\s*[\w\"]")
TEXT = re.compile(r"'[^']*'")
BUILT_IN = {"SYS", "DUAL"}

LINKED = "{name} reads over the database link {link}: its writers are not among this database's transactions"
AWAY = "{name} is an external table ({kind}): its rows are not written by transactions of this database"
REFRESHED = (
    "{name} is a materialised view: rows appear with its next refresh, long after they were stamped; read it in mode "
    "full, or with a cursor.lookback longer than the time between two refreshes"
)
HIDDEN_VIEW = "what view {name} reads is not shown to this account"
UNKNOWN = "the catalogue shows this account no table {name}: where its rows come from is not known"
POLICY = "a policy (virtual private database) filters {name}: which rows it hides from this account cannot be told"
REDACTION = "{name}: this account is shown other values than those of {columns} (data redaction)"
NOT_SEEN = (
    "this account may not see REDACTION_COLUMNS, so it is not known whether values are redacted; grant it select on "
    "sys.redaction_columns, or EXEMPT REDACTION POLICY"
)


def origins(ask: Ask, sql: str, who: object, row_security: Literal["refuse", "apply"]) -> Origins:
    """What the SELECT reads, through views and synonyms.

    Raises:
        ConfigurationError: a policy hides something, and the source's YAML does not want that.
    """
    catalogue = _Catalogue(ask)
    caveats = [*reading(sql, "oracle", catalogue.definition).caveats, *catalogue.caveats]
    hidden, unchecked = _shown(ask, catalogue.found)
    if hidden and row_security == "refuse":
        raise ConfigurationError(
            f"{who}: {'; '.join(hidden)}. Nothing was read; grant the account EXEMPT ACCESS POLICY (EXEMPT REDACTION "
            "POLICY), or set extract.row_security: apply if what it is shown is wanted"
        )
    relations, elsewhere = list(map(dotted, catalogue.found)), "; ".join(catalogue.elsewhere)
    return Origins(relations, elsewhere=elsewhere, caveats=caveats, hidden=hidden, unchecked=unchecked)


class _Catalogue:
    """What it says of the relations that it was asked about."""

    def __init__(self, ask: Ask) -> None:
        self.found: list[Path] = []
        self.elsewhere: list[str] = []
        self.caveats: list[str] = []
        self._ask = ask

    def definition(self, path: Path) -> str | None:
        """The SELECT that a view or a synonym stands for; None for anything else."""
        name, owner = path[-1], path[-2] if len(path) > 1 else None
        if (owner or name).upper() in BUILT_IN:
            return None
        rows = self._ask(FOUND, {"owner": owner, "name": name})
        if not rows:
            self.caveats.append(UNKNOWN.format(name=dotted(path)))
            return None
        place = {"owner": rows[0][0], "name": name}
        full, kinds = (str(rows[0][0]), name), {kind for owner, kind in rows if owner == rows[0][0]}
        if "SYNONYM" in kinds:
            return self._synonym(full, place)
        self.found.append(full)
        if "VIEW" in kinds:
            return self._view(full, place)
        self._table(full, place, refreshed="MATERIALIZED VIEW" in kinds)
        return None

    def _synonym(self, full: Path, place: Mapping[str, Any]) -> str | None:
        ((owner, name, link),) = self._ask(SYNONYM, place)
        if link:
            self.elsewhere.append(LINKED.format(name=dotted(full), link=link))
            return None
        return f'select * from "{owner}"."{name}"'

    def _view(self, full: Path, place: Mapping[str, Any]) -> str | None:
        shown = [text for (text,) in self._ask(VIEW, place) if text]
        if not shown:
            self.caveats.append(HIDDEN_VIEW.format(name=dotted(full)))
            return None
        if link := LINK.search(TEXT.sub("''", shown[0])):
            self.elsewhere.append(LINKED.format(name=f"view {dotted(full)}", link=f"{link[0]}..."))
            return None
        return select_of(shown[0], "oracle", full[0])

    def _table(self, full: Path, place: Mapping[str, Any], *, refreshed: bool) -> None:
        if refreshed:
            self.caveats.append(REFRESHED.format(name=dotted(full)))
        for (kind,) in self._ask(EXTERNAL, place):
            self.elsewhere.append(AWAY.format(name=dotted(full), kind=kind))


def _shown(ask: Ask, found: list[Path]) -> tuple[list[str], list[str]]:
    """What is hidden from the account, and what could not be looked at."""
    exempt = {privilege for (privilege,) in ask(PRIVILEGES, {"owner": None, "name": None})}
    hidden: list[str] = []
    if "EXEMPT ACCESS POLICY" not in exempt:
        hidden += [POLICY.format(name=dotted(one)) for one in found if ask(POLICIES, _place(one))]
    if "EXEMPT REDACTION POLICY" in exempt:
        return hidden, []
    try:
        return [*hidden, *_redacted(ask, found)], []
    except ConfigurationError:  # ORA-00942: no such view, as far as this account can tell
        return hidden, [NOT_SEEN]


def _redacted(ask: Ask, found: list[Path]) -> Iterator[str]:
    for one in found:
        if columns := [str(name) for (name,) in ask(REDACTED, _place(one))]:
            yield REDACTION.format(name=dotted(one), columns=", ".join(columns))


def _place(full: Path) -> dict[str, str]:
    return {"owner": full[0], "name": full[-1]}
