"""Cuts a read into slices by ranges of a column: every row lies in exactly one, also one without a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal

from sqlglot import exp

from include.etl.engines.base import Query, Session, Statistics, Value
from include.etl.engines.mssql_sql import parts
from include.etl.errors import StorageError
from include.etl.handover import Bounds, Extracted, Plan
from include.etl.histogram import Histogram
from include.etl.records.run import Run
from include.etl.storage import read_json, write_json

MOST = 256
"""Slices of one read; each costs a task."""
FILE = "slices.json"
START, END = "slice_start", "slice_end"
KINDS: dict[str, Callable[[str], Value]] = {
    "int": int,
    "Decimal": Decimal,
    "str": str,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
}


def cut(
    column: str, statistics: Statistics, rows_per_slice: int, low: Value = None, high: Value = None
) -> list[Bounds]:
    """Slices of about that many rows of those in `[low, high)`; one where the catalogue gives no ground to cut on."""
    edges = []
    if statistics.rows and statistics.steps and type(statistics.steps[0].value).__name__ in KINDS:
        edges = Histogram(statistics).edges(rows_per_slice, MOST, low, high)
    if not edges:
        return [Bounds()]
    kind, texts = type(edges[0]).__name__, [_text(edge) for edge in edges]
    pairs = zip([None, *texts], [*texts, None], strict=True)
    made = [{"column": column, "kind": kind, "start": start, "end": end} for start, end in pairs]
    return [Bounds.model_validate(one) for one in made]


def keep(run: Run, cuts: Sequence[Bounds]) -> None:
    """Put the bounds where the run's tasks find them; they are data, and so lie with the data."""
    write_json(run.records / FILE, [one.model_dump() for one in cuts])


def kept(run: Run, index: int) -> Bounds:
    """The bounds of the slice with this number."""
    return Bounds.model_validate(read_json(run.records / FILE)[index])


def within(query: Query, part: Bounds, dialect: str) -> Query:
    """The query's rows that lie in the slice."""
    column, convert = f"sliced.{_quoted(part, dialect)}", KINDS[part.kind]
    conditions, params = [], dict(query.params)
    if part.start is not None:
        conditions.append(f"{column} >= :{START}")
        params[START] = convert(part.start)
    if part.end is not None:
        missing = f" OR {column} IS NULL" if part.start is None else ""
        conditions.append(f"({column} < :{END}{missing})")
        params[END] = convert(part.end)
    before, main, behind = _parts(query, dialect)
    sql = f"{before}SELECT * FROM (\n{main}\n) sliced WHERE {' AND '.join(conditions)} {behind}"
    return Query(sql.rstrip(), params)


def ascending(session: Session, query: Query, cuts: Sequence[Bounds], dialect: str) -> bool:
    """Whether the column itself orders the bounds as the slices do: then no row is in two of them.

    Numbers and times are ordered alike everywhere; text is not, so the database is asked. No row is read: the
    query's column only lends the bounds its type and collation.
    """
    inner = [part for part in cuts if part.start is not None and part.end is not None]
    if not inner or cuts[0].kind != "str":
        return True
    name, dual = _quoted(cuts[0], dialect), " FROM dual" if dialect == "oracle" else ""
    conditions, params = [], dict(query.params)
    for n, part in enumerate(inner):
        conditions.append(f"COALESCE(lent.{name}, :{START}_{n}) < COALESCE(lent.{name}, :{END}_{n})")
        params |= {f"{START}_{n}": part.start, f"{END}_{n}": part.end}
    before, main, behind = _parts(query, dialect)
    counting = Query(
        f"{before}SELECT count(*) AS n FROM (SELECT 1 AS one{dual}) single LEFT JOIN (\nSELECT {name} FROM (\n{main}\n)"
        f" sliced WHERE 1 = 0\n) lent ON 1 = 0 WHERE {' AND '.join(conditions)} {behind}".rstrip(),
        params,
    )
    return any(int(n) for batch in session.stream(counting).batches for n in batch.column(0).to_pylist())


def _parts(query: Query, dialect: str) -> tuple[str, str, str]:
    """What stays before, inside of and behind the parentheses; only T-SQL does not take every query into them."""
    return parts(query.sql) if dialect == "tsql" else ("", query.sql, "")


def _quoted(part: Bounds, dialect: str) -> str:
    return exp.to_identifier(str(part.column), quoted=True).sql(dialect=dialect)


def _text(value: Value) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def extracted_by(plan: Plan, extracted: Sequence[Extracted], source: str) -> list[Extracted]:
    """What was read for the plan's slices, in their order.

    Airflow passes on what every slice of the run has returned, also those of an earlier plan with more slices.

    Raises:
        StorageError: a slice was not read by this plan: the tasks of the run were cleared in part.
    """
    found = {one.slice.index: one for one in extracted if one.plan_id == plan.id}
    missing = [part.index for part in plan.slices if part.index not in found]
    if missing:
        listed = ", ".join(map(str, missing))
        raise StorageError(
            f"source {source!r}: the plan was made anew, and slice {listed} was not read since; nothing was published. "
            "Clear the run from its plan on, with all tasks after it"
        )
    return [found[part.index] for part in plan.slices]
