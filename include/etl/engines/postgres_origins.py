"""Where the rows of a PostgreSQL query come from: its own tables, other servers, or what is made of tables later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot.errors import SqlglotError

from include.etl.engines.base import Origins
from include.etl.engines.origins import Path, reading
from include.etl.engines.postgres_relations import Relation

FUNCTION = (
    "{} is a function, and what it reads is not looked into: its rows may be written elsewhere, or appear long after "
    "their time; run mode full now and then, or set cursor.lookback"
)
OF_FUNCTION = (
    "rows come from function {}: whether it gives all of them (tables of another server, one that is emptied and "
    "filled while it is read) cannot be checked from here"
)


def origins(
    sql: str,
    own: Mapping[str, str],
    found: Sequence[Relation],
    views: Mapping[int, str],
    functions: Mapping[str, bool],
    *,
    policies: bool,
) -> Origins:
    """Of a query and what it reads.

    `own` are the schemas of names without one, `functions` those that are not built in and whether they give rows;
    `policies`: they are applied.
    """
    foreign = [one for one in found if one.kind == "f"]
    return Origins(
        relations=[one.name for one in found if not one.below],
        partitions=[one.name for one in found if one.below],
        attached=[one.name for one in found if one.attached],
        elsewhere="; ".join(_elsewhere(one) for one in foreign),
        caveats=[
            *(_refreshed(one) for one in found if one.kind == "m"),
            *_joined(sql, own, found, views),
            *map(FUNCTION.format, functions),
        ],
        unchecked=[
            *(_another_state(one) for one in foreign),
            *(OF_FUNCTION.format(name) for name, gives_rows in functions.items() if gives_rows),
        ],
        hidden=[_hidden(one) for one in found if policies and one.row_security],
    )


def _joined(sql: str, own: Mapping[str, str], found: Sequence[Relation], views: Mapping[int, str]) -> Sequence[str]:
    named = {(one.schema, one.bare_name): views.get(one.oid) for one in found}

    def definition(path: Path) -> str | None:
        schema = path[-2] if len(path) > 1 else own.get(path[-1], "")
        return named.get((schema, path[-1]))

    try:
        return reading(sql, "postgres", definition).caveats
    except SqlglotError:  # the guard lets no query of a source through that cannot be parsed
        return ()


def _elsewhere(one: Relation) -> str:
    table = f"{one.name} is a foreign table (server {one.server}, {one.wrapper})"
    return f"{table}, whose rows are not written by transactions of this server"


def _another_state(one: Relation) -> str:
    return (
        f"{one.name} is a foreign table (server {one.server}, {one.wrapper}): whether that server shows all of its "
        "rows (policies, a table that is emptied and filled while it is read) cannot be checked from here"
    )


def _refreshed(one: Relation) -> str:
    return (
        f"{one.name} is a materialised view: rows appear with its next REFRESH, long after they were stamped; read it "
        "in mode full, or with a cursor.lookback longer than the time between two refreshes"
    )


def _hidden(one: Relation) -> str:
    return (
        f"{one.name} has policies (row-level security), and extract.row_security is apply: rows that they hide from "
        "the account are neither read nor counted"
    )
