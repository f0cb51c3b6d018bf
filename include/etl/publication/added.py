"""Published rows that the new publication takes over: rows of its window's earlier publication, and deleted ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from include.etl.duck import count, parquet, quote, text
from include.etl.errors import SchemaChanged
from include.etl.handover import DELETED_AT
from include.etl.publication import files
from include.etl.publication.rows import NewRows, PublishedRows, order
from include.etl.publication.schema import widens
from include.etl.records.manifest import Manifest


@dataclass
class AddedRows:
    """The table `added`, which has the columns of the new rows."""

    rows: PublishedRows
    new: NewRows

    def __post_init__(self) -> None:
        """Start with none."""
        self.rows.connection.execute(f"CREATE TEMP TABLE added AS SELECT * FROM {parquet([self.new.interim])} LIMIT 0")

    def __len__(self) -> int:
        """How many have been added."""
        return count(self.rows.connection, "added")

    def add(self, manifest: Manifest, selected: str, replaced: dict[str, str] | None = None) -> None:
        """Add rows of the table `other`: `selected` follows FROM, `replaced` gives columns another expression.

        Columns that the new rows do not have are left out.

        Raises:
            SchemaChanged: a column's values would have to be converted.
        """
        mine, theirs, before = self.new.schema, files.schema_of(manifest), len(self)
        given = dict.fromkeys(mine.names, "NULL") | {n: f"other.{quote(n)}" for n in theirs.names if n in mine.names}
        values = given | (replaced or {})
        apart = [n for n in mine.names if n in theirs.names and not widens(theirs.field(n).type, mine.field(n).type)]
        if apart and count(self.rows.connection, selected):
            raise self._refused(manifest, f"column {apart[0]!r} was {theirs.field(apart[0]).type}")
        if not apart:
            names = ", ".join(quote(name) for name in values)
            expressions = ", ".join(values.values())
            self.rows.connection.execute(f"INSERT INTO added ({names}) SELECT {expressions} FROM {selected}")
        lost = [n for n in theirs.names if n not in (*mine.names, DELETED_AT)]
        if lost and not replaced and len(self) > before:
            raise self._refused(manifest, f"column {lost[0]!r} was there")

    def combined(self, interim: Path, result: Path) -> Path:
        """The interim file, or one with the added rows too, in the order of published rows."""
        if not len(self):
            return interim
        both = f"SELECT * FROM {parquet([interim])} UNION ALL SELECT * FROM added"
        sorting = order(self.new.source.output.partition_by, self.new.key, self.new.cursor)
        options = "FORMAT parquet, COMPRESSION zstd"
        self.rows.connection.execute(f"COPY (SELECT * FROM ({both}){sorting}) TO {text(str(result))} ({options})")
        return result

    def _refused(self, manifest: Manifest, what: str) -> SchemaChanged:
        return SchemaChanged(
            f"source {self.new.source.source!r}: rows of {manifest.window.name}, which are not in the source any more "
            f"or were not read again, cannot be kept beside the new ones: {what}. Nothing was published; allowed: run "
            "once with mode full and deletes: ignore, which gives them up"
        )
