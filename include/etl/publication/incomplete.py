"""Rows with a NULL in their key, which does not tell them apart: they are the same where all that the source gave is.

Read again, because they lie before the window or have no cursor value, as many equal ones are left out as stand in
other publications, and no more: one that came late is published, though its key and cursor are another one's.
"""

from __future__ import annotations

from collections.abc import Iterable

from include.etl.duck import count, parquet, quote
from include.etl.handover import DELETED_AT
from include.etl.publication.rows import NewRows, PublishedRows, same
from include.etl.records.manifest import Manifest, PublishedFile


def published_before(
    rows: PublishedRows, new: NewRows, files: Iterable[tuple[Manifest, PublishedFile]], before: str | None
) -> str | None:
    """A condition for rows of the interim file, numbered, that stand in these files; None where there are none.

    `before` tells, of new rows and of published ones, which are read again. Each file's rows come in one format.
    """
    connection, interim = rows.connection, f"{parquet([new.interim], numbered=True)} AS mine"
    condition = f"{new.incomplete('mine')} AND {before}"
    if before is None or not new.key or not count(connection, f"{interim} WHERE {condition}"):
        return None
    given = ", ".join(quote(name) for name in new.given)
    connection.execute(f"CREATE TEMP TABLE standing AS SELECT {given} FROM {parquet([new.interim])} LIMIT 0")
    for manifest, file in files:
        rows.check(manifest, new, columns=new.given)
        rows.register(manifest, file)
        live = f" AND {DELETED_AT} IS NULL" if file.deleted else ""
        connection.execute(
            f"INSERT INTO standing SELECT {given} FROM other WHERE {new.incomplete('other')} AND {before}{live}"
        )
    numbered = f"file_row_number AS _number, row_number() OVER (PARTITION BY {given}) AS _place"
    connection.execute(
        f"CREATE TEMP TABLE again AS SELECT _number FROM "
        f"(SELECT {given}, {numbered} FROM {interim} WHERE {condition}) AS mine "
        f"JOIN (SELECT {given}, count(*) AS _rows FROM standing GROUP BY {given}) AS standing "
        f"ON {same(new.given, 'mine', 'standing')} AND _place <= _rows"
    )
    return "file_row_number IN (SELECT _number FROM again)"
