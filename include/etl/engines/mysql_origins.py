"""Where the rows of a query come from, by MySQL's and MariaDB's catalogues: through views down to the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from include.etl.engines.base import Origins
from include.etl.engines.batches import Row
from include.etl.engines.mysql_catalog import is_mariadb
from include.etl.engines.mysql_sql import literal
from include.etl.engines.origins import Path, dotted, reading

HERE = "select coalesce(database(), ''), @@lower_case_table_names"
RELATION = """select table_type, coalesce(engine, '') from information_schema.tables
where table_schema = {schema} and table_name = {name}"""
VIEW = """select view_definition from information_schema.views
where table_schema = {schema} and table_name = {name}"""
TRANSACTIONAL = "select engine from information_schema.engines where transactions = 'YES'"
ELSEWHERE = {"FEDERATED", "CONNECT", "SPIDER", "NDBCLUSTER", "NDB", "S3", "COLUMNSTORE", "SPHINX", "MYSQL_EXTERNAL"}
"""Engines that store nothing themselves, or that other servers write to as well."""

AWAY = "{name} is a table of engine {engine}: its rows are written elsewhere, where open transactions cannot be seen"
WITHOUT = "{name} is a table of engine {engine}, which has no transactions: who writes to it cannot be seen"
NO_SNAPSHOT = (
    "{name} is a table of engine {engine}, of which a session has no snapshot: rows that change before its last query "
    "(of all slices, and their count) has ended may be missed or come twice"
)
HIDDEN = (
    "what view {name} reads is not shown to this account, and may be tables without a snapshot or of another server; "
    "grant it SHOW VIEW"
)
UNKNOWN = (
    "the catalogue shows this account no table {name}, which may have no snapshot or be of another server; grant it "
    "SELECT on it"
)
UNREADABLE = "the definition of view {name} cannot be read: its tables may have no snapshot or be of another server"


def with_in_any_case(ask: Callable[[str], list[Row]]) -> bool:
    """Whether names of WITH clauses are equal in any case: always to MariaDB, to MySQL where tables' names are."""
    return bool(int(ask("select @@lower_case_table_names")[0][0])) or is_mariadb(ask)


def origins(ask: Callable[[str], list[Row]], sql: str, *, any_case: bool) -> Origins:
    """What the SELECT reads; names without a schema are of the session's own. `any_case`: see `with_in_any_case`."""
    catalogue = _Catalogue(ask)
    found = reading(sql, "mysql", catalogue.definition, with_in_any_case=any_case)
    for path in found.unreadable:
        catalogue.doubt(UNREADABLE, catalogue.full(path))
    names = list(dict.fromkeys(catalogue.full(path) for path in found.relations))
    return Origins(
        relations=list(map(dotted, names)),
        elsewhere="; ".join(catalogue.elsewhere),
        caveats=found.caveats,
        unchecked=catalogue.unchecked,
    )


class _Catalogue:
    """What it says of the relations that it was asked about."""

    def __init__(self, ask: Callable[[str], list[Row]]) -> None:
        self.elsewhere: list[str] = []
        self.unchecked: list[str] = []
        self._ask = ask
        ((schema, folded),) = ask(HERE)
        self._schema, self._folded = _text(schema), int(folded) != 0
        self._transactional = {_text(engine).upper() for (engine,) in ask(TRANSACTIONAL)}

    def full(self, path: Path) -> Path:
        """The name with its schema, as the catalogue has it."""
        whole = path if len(path) > 1 else (self._schema, *path)
        return tuple(part.lower() for part in whole) if self._folded else whole

    def definition(self, path: Path) -> str | None:
        """The SELECT of a view; None for anything else."""
        name = self.full(path)
        place = {"schema": literal(name[0]), "name": literal(name[-1])}
        rows = [tuple(map(_text, row)) for row in self._ask(RELATION.format(**place))]
        if not rows:
            self.doubt(UNKNOWN, name)
            return None
        ((kind, engine),) = rows
        if kind != "VIEW":
            self._judge(name, engine)
            return None
        shown = [_text(text or b"") for (text,) in self._ask(VIEW.format(**place))]
        if not any(shown):
            self.doubt(HIDDEN, name)
            return None
        return shown[0]

    def doubt(self, why: str, name: Path) -> None:
        """What is below a name is not known: neither who writes there, nor whether a snapshot holds it."""
        self.elsewhere.append(why.format(name=dotted(name)))
        self.unchecked.append(why.format(name=dotted(name)))

    def _judge(self, name: Path, engine: str) -> None:
        away = engine.upper() in ELSEWHERE
        if away or engine.upper() not in self._transactional:
            said = {"name": dotted(name), "engine": engine or "that is not told"}
            self.elsewhere.append((AWAY if away else WITHOUT).format(**said))
            self.unchecked.append(NO_SNAPSHOT.format(**said))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
