"""What a query reads, by its text and that of the views below it, for every engine.

A row that is made of several tables (a join, a subquery, a lookup) appears when the last of its partners is committed,
and bears the time of one of them. So it matters which tables a row is made of, not only which are read: the two sides
of a UNION make no row together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlglot.optimizer.qualify_tables import qualify_tables

Path = tuple[str, ...]
"""The parts of a name, as the query gives them: schema and name, or the name alone; folded as the database folds."""
Definition = Callable[[Path], str | None]
"""The SELECT that a view stands for, whose own names it has qualified; None for what is no view."""
Ways = list[tuple[Path, ...]]
"""The tables that a row is made of; several, where rows come in several ways."""

WITH_DUAL = ("mysql", "oracle")
"""Dialects in which DUAL stands for no table."""
JOINED = (
    "rows come from a join of {}: one whose partner is committed later appears with a time of long ago; run mode full "
    "now and then, or set cursor.lookback"
)
UNREADABLE = "the definition of view {} cannot be read: whether its rows appear long after their time is not known"


class Reading(NamedTuple):
    """What a query reads; every name once, in the order of the text."""

    relations: Sequence[Path] = ()
    """Tables and views, also those that only views name."""
    tables: Sequence[Path] = ()
    """The relations that are no views."""
    joins: Sequence[Sequence[Path]] = ()
    """Tables of which a row is made together, for each such way; one that is joined to itself stands twice."""
    unreadable: Sequence[Path] = ()
    """Views whose definition is not SQL that can be read here."""

    @property
    def caveats(self) -> list[str]:
        """What may be missed, in words."""
        joined = [JOINED.format(_listed(dict.fromkeys(map(dotted, tables)))) for tables in self.joins]
        return joined + [UNREADABLE.format(dotted(path)) for path in self.unreadable]


def dotted(path: Path) -> str:
    """A name as a person writes it."""
    return ".".join(path)


def reading(
    sql: str, dialect: str, definition: Definition = lambda _: None, *, with_in_any_case: bool = False
) -> Reading:
    """What the SELECT reads, through views that `definition` knows; names of its WITH clauses are no relations.

    Some servers tell tables apart by case and yet not these names: `with_in_any_case`.

    Raises:
        sqlglot.errors.SqlglotError: the SQL itself cannot be read; the guard has seen that it can.
    """
    reader = _Reader(dialect, definition, str.casefold if with_in_any_case else str)
    ways = reader.ways(reader.parsed(sql), {})
    joins = list(dict.fromkeys(way for way in ways if len(way) > 1))
    tables = [path for path, view in reader.seen.items() if view is None]
    return Reading(list(reader.seen), tables, joins, reader.unreadable)


def called(sql: str, dialect: str) -> list[str]:
    """The functions that the SELECT calls, in small letters, with their schemas where it names them."""
    found = []
    for call in sqlglot.parse_one(sql, dialect=dialect).find_all(exp.Func):
        names = [call.name] if isinstance(call, exp.Anonymous) else call.sql_names()
        schema = _schema(call)
        found += [f"{schema}.{name}".lower() if schema else name.lower() for name in names]
    return list(dict.fromkeys(found))


def _schema(call: exp.Func) -> str:
    if isinstance(call.parent, exp.Table):
        return call.parent.db
    before = call.parent.this if isinstance(call.parent, exp.Dot) and call.parent.expression is call else None
    return before.name if isinstance(before, exp.Expr) else ""


def select_of(create_view: str, dialect: str, schema: str) -> str:
    """What a view stands for, its own names with this schema; nothing, which cannot be read, where it is unclear."""
    try:
        parsed = sqlglot.parse_one(create_view, dialect=dialect)
    except (SqlglotError, RecursionError):
        return ""
    query = parsed.expression if isinstance(parsed, exp.Create) else parsed
    if not isinstance(query, exp.Query):
        return ""
    return qualify_tables(query, db=exp.to_identifier(schema, quoted=True), dialect=dialect).sql(dialect=dialect)


class _Reader:
    """Walks through a statement and the views below it."""

    def __init__(self, dialect: str, definition: Definition, folded: Callable[[str], str]) -> None:
        self.seen: dict[Path, Ways | None] = {}
        self.unreadable: list[Path] = []
        self._dialect, self._definition, self._folded = dialect, definition, folded

    def parsed(self, sql: str) -> exp.Expr:
        parsed = sqlglot.parse_one(sql, dialect=self._dialect)
        return _folded(parsed) if self._dialect == "postgres" else normalize_identifiers(parsed, dialect=self._dialect)

    def ways(self, query: exp.Expr, named: Mapping[str, Ways]) -> Ways:
        """The ways in which rows of a query come about; `named` are those of the WITH clauses around it."""
        for cte in query.args["with_"].expressions if query.args.get("with_") else ():
            named = {**named, self._folded(cte.alias): self._named(cte, named)}
        if isinstance(query, exp.Union):
            return [*self.ways(query.left, named), *self.ways(query.right, named)]
        inputs = [self._input(node, named) for node in _inputs(query)]
        return _together([ways for ways in inputs if ways])

    def _named(self, cte: exp.Expr, named: Mapping[str, Ways]) -> Ways:
        """Those of a WITH clause; one that names itself joins its rows with those that it had before."""
        own = self._folded(cte.alias)
        first = self.ways(cte.this, {**named, own: []})
        recursive = any(self._folded(table.name) == own for table in cte.this.find_all(exp.Table))
        return self.ways(cte.this, {**named, own: first}) if recursive else first

    def _input(self, node: exp.Expr, named: Mapping[str, Ways]) -> Ways:
        if not isinstance(node, exp.Table):
            return self.ways(node, named)
        path = tuple(part.name for part in node.parts)
        if not path:  # ROWS FROM (f(), g())
            return []
        if self._dialect in WITH_DUAL and len(path) == 1 and path[0].upper() == "DUAL":
            return []
        own = self._folded(path[0])
        return named[own] if len(path) == 1 and own in named else self._relation(path)

    def _relation(self, path: Path) -> Ways:
        if path not in self.seen:
            self.seen[path] = None
            definition = self._definition(path)
            if definition is not None:
                self.seen[path] = self._view(path, definition)
        known = self.seen[path]
        return [(path,)] if known is None else known

    def _view(self, path: Path, definition: str) -> Ways:
        try:
            return self.ways(self.parsed(definition), {})
        except Exception:  # noqa: BLE001 - a parser that stumbles has not understood it
            self.unreadable.append(path)
            return []


def _folded(tree: exp.Expr) -> exp.Expr:
    """With names as PostgreSQL folds them: of letters beyond ASCII it leaves the case."""
    for name in tree.find_all(exp.Identifier):
        if not name.quoted:
            name.set("this", "".join(letter.lower() if letter.isascii() else letter for letter in name.name))
    return tree


def _inputs(query: exp.Expr) -> Iterator[exp.Expr]:
    """The tables and inner queries that stand directly in a query: in FROM, in joins, and in any expression."""
    waiting = [child for key, child in _children(query) if key != "with_"]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, exp.Table) and not isinstance(node.this, exp.Func):
            yield node
        if isinstance(node, exp.Select | exp.SetOperation) or (isinstance(node, exp.Query) and node.args.get("with_")):
            yield node
        else:
            waiting = [child for _, child in _children(node)] + waiting


def _children(node: exp.Expr) -> Iterator[tuple[str, exp.Expr]]:
    for key, value in node.args.items():
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, exp.Expr):
                yield key, child


def _together(inputs: Sequence[Ways]) -> Ways:
    """A row needs one of each input; where there are several, all of their tables are named as one join."""
    if len(inputs) < 2:
        return inputs[0] if inputs else []
    return [tuple(path for ways in inputs for way in ways for path in way)]


def _listed(names: Mapping[str, None]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else f"{last} with itself"
