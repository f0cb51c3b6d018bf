"""Keeps each version of a row (key and cursor value) published once, however windows overlap.

- Rows that the lookback read again and that stand in another publication are left out of the new one.
- Rows of the window itself that stand in another publication (a backfill or range over extracted days) are taken out
  of that one: the copy that was read last is the one that stays.
- A full extraction replaces all that had been extracted when it began to read. Rows that another run has extracted
  since then stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from include.etl import cursor as cursors
from include.etl.config import Source
from include.etl.duck import count, parquet, quote, text
from include.etl.errors import ConfigurationError, StorageError
from include.etl.handover import METADATA, Window
from include.etl.publication import files
from include.etl.publication.files import cursor_text
from include.etl.records.manifest import Manifest, PublishedFile


@dataclass(frozen=True)
class Change:
    """What happens to a file of another publication: replaced by one with fewer rows, or removed."""

    manifest: Manifest
    old: PublishedFile
    new: PublishedFile | None


@dataclass
class Overlap:
    """The new rows against what other publications of the source hold."""

    connection: duckdb.DuckDBPyConnection
    source: Source
    window: Window
    read_at: datetime
    folder: Path
    others: Sequence[Manifest]
    key: list[str]
    cursor: str | None
    interim: Path

    def without_published(self, result: Path) -> Path:
        """The interim file, or a copy less the rows published already that lie before the window or have no cursor."""
        start, read_from = self._text(self.window.start), self._text(self.window.read_from)
        if not self.cursor or start is None:
            return self.interim
        without = f"SELECT 1 FROM {parquet([self.interim])} WHERE {quote(self.cursor)} IS NULL"
        missing = count(self.connection, f"({without})") > 0
        if start == read_from and not missing:
            return self.interim
        before = f"({quote(self.cursor)} < {self._bound(self.window.start)} OR {quote(self.cursor)} IS NULL)"
        found = False
        for manifest, file in self._touching(read_from, start, missing):
            self._register(manifest, file)
            table = "CREATE TEMP TABLE published AS" if not found else "INSERT INTO published"
            self.connection.execute(f"{table} SELECT {self._version} FROM other WHERE {before}")
            found = True
        if not found:
            return self.interim
        new = (
            f"SELECT * FROM {parquet([self.interim])} AS mine WHERE NOT ({before} AND EXISTS ({self._in('published')}))"
        )
        order = self._order(self.source.output.partition_by, self.key)
        self.connection.execute(f"COPY ({new}{order}) TO {text(str(result))} (FORMAT parquet, COMPRESSION zstd)")
        return result

    def changes(self, interim: Path, staging: Path) -> list[Change]:
        """What becomes of other publications' files; rewritten ones lie below `staging`, under their own names."""
        start = self._text(self.window.start)
        if self.window.mode == "full":
            touched = [(manifest, file) for manifest in self.others for file in manifest.files]
        else:
            touched = list(self._touching(start, self._text(self.window.end), missing=start is None))
        found = (self._change(manifest, file, interim, staging) for manifest, file in touched)
        return [change for change in found if change is not None]

    def _change(self, manifest: Manifest, file: PublishedFile, interim: Path, staging: Path) -> Change | None:
        full = self.window.mode == "full"
        if full and manifest.published_at <= self.read_at:
            return Change(manifest, file, None)
        if full and not self._comparable(manifest):
            return None
        self._register(manifest, file)
        self.connection.execute(f"CREATE OR REPLACE TEMP VIEW fresh AS SELECT * FROM {parquet([interim])}")
        gone = f"EXISTS ({self._in('fresh', 'other')})"
        if full:
            gone = f"({gone} OR other._extracted_at <= TIMESTAMPTZ '{self.read_at.isoformat()}')"
        elif self.window.start is not None and self.cursor:
            gone = f"({gone} AND other.{quote(self.cursor)} >= {self._bound(self.window.start)})"
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE kept AS SELECT * FROM other WHERE NOT {gone}")
        left = count(self.connection, "kept")
        if left == file.rows:
            return None
        if left == 0:
            return Change(manifest, file, None)
        order = self._order(manifest.partition_by, manifest.key)
        kept = self.connection.sql(f"SELECT * FROM kept{order}").to_arrow_reader(files.BATCH_ROWS)
        exact = pa.RecordBatchReader.from_batches(files.schema_of(manifest), _cast(kept, files.schema_of(manifest)))
        return Change(manifest, file, files.rewrite(manifest, file, exact, staging))

    def _comparable(self, manifest: Manifest) -> bool:
        """Whether the other publication has the columns that tell versions apart, of the same types."""
        mine, theirs = pq.read_schema(self.interim), files.schema_of(manifest)
        return all(
            name in theirs.names and theirs.field(name).type == mine.field(name).type for name in self._columns()
        )

    def _touching(
        self, start: str | None, end: str | None, missing: bool = False
    ) -> Iterator[tuple[Manifest, PublishedFile]]:
        """Files of others that may hold rows with a cursor value in [start, end), or, if asked for, without any."""
        for manifest in self.others:
            for file in manifest.files:
                span = file.cursor_min is not None and (start is None or str(file.cursor_max) >= start)
                if (span and (end is None or str(file.cursor_min) < end)) or (missing and file.cursor_missing):
                    yield manifest, file

    def _register(self, manifest: Manifest, file: PublishedFile) -> None:
        """Make a published file's rows the table `other`."""
        if not self._comparable(manifest):
            raise ConfigurationError(
                f"source {self.source.source!r}: key, cursor or columns have changed since {manifest.window.name} was "
                "published, so that its rows cannot be compared; run once with mode full, which replaces everything"
            )
        if not (self.folder / file.path).exists():
            raise StorageError(
                f"file {self.folder / file.path} is gone, which the manifest of {manifest.window.name} lists; "
                "restore it from a backup, or run once with mode full"
            )
        reader = files.read(self.folder, manifest, file)
        self.connection.register("published_file", reader)
        self.connection.execute("CREATE OR REPLACE TEMP TABLE other AS SELECT * FROM published_file")
        self.connection.unregister("published_file")

    @property
    def _version(self) -> str:
        return ", ".join(quote(column) for column in self._columns())

    def _columns(self) -> list[str]:
        """What makes two rows the same version: key and cursor, or everything the source gave where it has no key."""
        columns = pq.read_schema(self.interim).names
        own = self.key or [name for name in columns if name not in METADATA]
        return [*own, *([self.cursor] if self.cursor and self.cursor not in own else [])]

    def _in(self, table: str, row: str = "mine") -> str:
        same = " AND ".join(f"{row}.{quote(c)} IS NOT DISTINCT FROM t.{quote(c)}" for c in self._columns())
        return f"SELECT 1 FROM {table} AS t WHERE {same}"

    @staticmethod
    def _order(partition: str | None, key: Sequence[str]) -> str:
        order = [name for name in (partition, *key) if name]
        return f" ORDER BY {', '.join(quote(name) for name in order)}" if order else ""

    def _value(self, moment: datetime | None) -> date | datetime | None:
        if self.cursor is None or moment is None:
            return None
        value = cursors.bound(moment, pq.read_schema(self.interim).field(self.cursor).type, self.source)
        assert isinstance(value, date)  # a datetime is a date too
        return value

    def _text(self, moment: datetime | None) -> str | None:
        return cursor_text(self._value(moment))

    def _bound(self, moment: datetime | None) -> str:
        value = self._value(moment)
        assert value is not None
        kind = (
            "TIMESTAMPTZ" if getattr(value, "tzinfo", None) else "TIMESTAMP" if isinstance(value, datetime) else "DATE"
        )
        return f"{kind} '{value.isoformat()}'"


def _cast(reader: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        yield batch.cast(schema)
