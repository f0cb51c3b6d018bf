"""`deletes: mark`: a full run keeps the last row of a key that left the source, with the time in `_deleted_at`.

Rows that another run read after the full run had begun to read are not touched. Marked rows go from full run to full
run until their key comes back. A row that an own transformation leaves out is still in the source: it is not marked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from include.etl.duck import count, parquet, quote
from include.etl.errors import DataError
from include.etl.handover import DELETED_AT
from include.etl.publication.added import AddedRows
from include.etl.publication.keys import CURSOR, FILE, GONE, READ, Keys
from include.etl.publication.rows import NewRows, PublishedRows, extracted, moment, same
from include.etl.records.manifest import Manifest

log = logging.getLogger("etl.deletes")
WAY_OUT = "run once with mode full and deletes: ignore"


def mark(
    rows: PublishedRows,
    new: NewRows,
    standing: Sequence[Manifest],
    added: AddedRows,
    scratch: Path,
) -> None:
    """Add the last row of every key that was published and is neither among the new rows nor in the raw parts.

    Raises:
        DataError: more keys than `max_deletes` allows.
    """
    for manifest in standing:
        rows.check(manifest, new, WAY_OUT)
    keys = Keys(rows, new, scratch)
    published = keys.of(standing)
    if published is None:
        return
    _find_vanished(rows, new, published)
    _check_limit(rows, new, published)
    numbers = rows.connection.sql(f"SELECT DISTINCT {FILE} FROM vanished ORDER BY {FILE}").fetchall()
    for (number,) in numbers:
        manifest, file = keys.files[number]
        rows.register(manifest, file)
        cursor = f"AND other.{quote(new.cursor)} IS NOT DISTINCT FROM v.{CURSOR}" if new.cursor else ""
        joined = f"other JOIN vanished AS v ON v.{FILE} = {number} AND {same(new.key, 'other', 'v')} {cursor}"
        added.add(manifest, joined, {DELETED_AT: f"coalesce(v.{GONE}, {moment(new.read_at)})"})


def _find_vanished(rows: PublishedRows, new: NewRows, published: str) -> None:
    """The table `vanished`: where the last row of each key lies that is not in the source any more."""
    names = ", ".join(quote(name) for name in new.key)
    since, own = f"coalesce({GONE}, {READ})", new.compared(new.key, "known")
    present = [f"SELECT {names} FROM {parquet([new.interim])}"]
    present += [f"SELECT {names} FROM {published} WHERE {since} > {moment(new.read_at)}"]
    present += [extracted(rows.connection, new, new.source.primary_key)] if new.raw else []
    complete = " AND ".join(f"{quote(name)} IS NOT NULL" for name in new.key)
    rows.connection.execute(
        f"CREATE TEMP TABLE vanished AS SELECT * FROM {published} AS known WHERE {complete} AND NOT EXISTS "
        f"(SELECT 1 FROM ({' UNION ALL '.join(present)}) AS present WHERE {new.same(new.key, 'known', 'present')}) "
        f"QUALIFY row_number() OVER (PARTITION BY {own} ORDER BY {CURSOR} DESC NULLS LAST, {since} DESC) = 1"
    )


def _check_limit(rows: PublishedRows, new: NewRows, published: str) -> None:
    source = new.source
    found = count(rows.connection, f"vanished WHERE {GONE} IS NULL")
    alive = count(
        rows.connection,
        f"(SELECT DISTINCT {new.compared(new.key, 'known')} FROM {published} AS known WHERE {GONE} IS NULL)",
    )
    if not found:
        return
    if found > round(alive * source.max_deletes, 6):  # 29 % of 100 are 28.999999999999996
        raise DataError(
            f"source {source.source!r}: {found} of {alive} published keys ({found / alive:.1%}) are not in the source; "
            f"allowed: max_deletes: {source.max_deletes * 100:g}%. Nothing was published. See whether the source is "
            "complete; if these rows are really deleted, raise max_deletes (to 100% at most) for one full run"
        )
    log.info("source %s: %d of %d published keys are marked as deleted", source.source, found, alive)
