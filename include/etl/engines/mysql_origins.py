"""Where the rows of a query come from, by MySQL's and MariaDB's catalogues: through views down to the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from include.etl.engines.base import Origins
from include.etl.engines.batches import Row
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
    "{name} is a table of engine {engine}, of which a session has no snapshot: rows that change while they are read "
    "may be missed or come twice"
)
HIDDEN = "what view {name} reads is not shown to this account; grant it SHOW VIEW"
UNKNOWN = "the catalogue shows this account no table {name}: where its rows come from is not known"


def origins(ask: Callable[[str], list[Row]], sql: str) -> Origins:
    """What the SELECT reads; names without a schema are of the session's own."""
    catalogue = _Catalogue(ask)
    found = reading(sql, "mysql", catalogue.definition)
    names = list(dict.fromkeys(catalogue.full(path) for path in found.relations))
    return Origins(
        relations=list(map(dotted, names)),
        elsewhere="; ".join(catalogue.elsewhere),
        caveats=[*found.caveats, *catalogue.caveats],
        unchecked=catalogue.unchecked,
    )


class _Catalogue:
    """What it says of the relations that it was asked about."""

    def __init__(self, ask: Callable[[str], list[Row]]) -> None:
        self.elsewhere: list[str] = []
        self.unchecked: list[str] = []
        self.caveats: list[str] = []
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
            self.caveats.append(UNKNOWN.format(name=dotted(name)))
            return None
        ((kind, engine),) = rows
        if kind != "VIEW":
            self._judge(name, engine)
            return None
        shown = [_text(text or b"") for (text,) in self._ask(VIEW.format(**place))]
        if not any(shown):
            self.caveats.append(HIDDEN.format(name=dotted(name)))
            return None
        return shown[0]

    def _judge(self, name: Path, engine: str) -> None:
        away = engine.upper() in ELSEWHERE
        if away or engine.upper() not in self._transactional:
            said = {"name": dotted(name), "engine": engine or "that is not told"}
            self.elsewhere.append((AWAY if away else WITHOUT).format(**said))
            self.unchecked.append(NO_SNAPSHOT.format(**said))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
