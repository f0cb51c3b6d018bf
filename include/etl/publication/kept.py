"""Published rows that stay though their window, or everything, is read again: a recovery takes nothing away.

What was read again follows the new run. What was not has left the source, or was changed there: with `append` each
such version stays, with `merge` the last row of each such key. Without a key a row that has left cannot be told from
one that was changed, which would stand beside its old self: where there is any, nothing is published.
"""

from __future__ import annotations

from collections.abc import Sequence

from include.etl.duck import count, parquet, quote
from include.etl.errors import DataError
from include.etl.publication.added import AddedRows
from include.etl.publication.keys import one_format
from include.etl.publication.rows import NewRows, PublishedRows, was_extracted
from include.etl.records.manifest import Manifest


def replaced(new: NewRows, standing: Sequence[Manifest]) -> list[Manifest]:
    """The publications whose files go: with a full run those that stood when it began to read, else its window's."""
    if new.window.mode == "full":
        return [one for one in standing if one.published_at <= new.read_at]
    return [one for one in standing if one.window.name == new.window.name]


def keep(rows: PublishedRows, new: NewRows, going: Sequence[Manifest], added: AddedRows) -> None:
    """Add the rows of these publications that were not read again.

    Raises:
        DataError: there are some, and without a key they cannot be told from rows that were changed.
    """
    again, lost = f"({_read(new)} OR {was_extracted(rows.connection, new)})", 0
    for manifest in going:
        rows.check(manifest, new)
        for file in one_format(manifest):
            rows.register(manifest, file)
            if new.key:
                added.add(manifest, f"other WHERE NOT {again}")
            else:
                lost += count(rows.connection, f"other WHERE NOT {again}")
    if lost:
        raise DataError(
            f"source {new.source.source!r}: {lost} published rows, which are whole, are not in the source as they were "
            "published. Without primary_key those that have left it cannot be told from those that were changed, so "
            "nothing was published. Recover again with `replace`, which lets them go, or keep what stands"
        )


def _read(new: NewRows) -> str:
    """Whether one of the new rows stands for a row of the table `other`."""
    columns = new.version
    related = new.same(columns, "other", "fresh")
    if new.source.load == "merge":
        complete = " AND ".join(f"other.{quote(name)} IS NOT NULL" for name in new.key)
        related = f"{new.same(new.key, 'other', 'fresh')} AND (({complete}) OR {related})"
    return f"EXISTS (SELECT 1 FROM {parquet([new.interim])} AS fresh WHERE {related})"
