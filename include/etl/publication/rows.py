"""Rows of published files as DuckDB tables: read, compared, and taken out of their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from include.etl import cursor as cursors
from include.etl.casts import cast_rows
from include.etl.columns import converted
from include.etl.config import Source
from include.etl.duck import batches, count, parquet, quote
from include.etl.errors import ConfigurationError, StorageError
from include.etl.handover import DELETED_AT, METADATA, KeyEquality, Position, Window
from include.etl.key_equality import folded
from include.etl.names import published_name
from include.etl.publication import files
from include.etl.publication.schema import widens
from include.etl.records.manifest import RECOVER, Manifest, PublishedFile


@dataclass(frozen=True)
class Change:
    """What happens to a file of another publication: replaced by one with fewer rows, or removed."""

    manifest: Manifest
    old: PublishedFile
    new: PublishedFile | None


@dataclass
class NewRows:
    """The rows that are being published."""

    source: Source
    window: Window
    read_at: datetime
    """When reading began: `_extracted_at` of all the rows."""
    interim: Path
    key: list[str]
    """Published names of the key's columns and of the cursor."""
    cursor: str | None
    raw: Sequence[Path] = ()
    """The extracted parts, if not all of their rows are among the new ones."""
    keys: Mapping[str, KeyEquality] = field(default_factory=dict)
    """Published columns of the key whose texts the source compares otherwise than by their bytes."""
    keep: bool = False
    """Published rows that were not read again stay, whatever the window."""

    @property
    def schema(self) -> pa.Schema:
        """Their columns."""
        return pq.read_schema(self.interim)

    @property
    def version(self) -> list[str]:
        """What makes two rows the same version: key and cursor, or all that the source gave where it has no key."""
        own = self.key or self.given
        return [*own, *([self.cursor] if self.cursor and self.cursor not in own else [])]

    @property
    def given(self) -> list[str]:
        """All that the source gave: the columns but for those that were added to them."""
        return [name for name in self.schema.names if name not in (*METADATA, DELETED_AT)]

    def incomplete(self, row: str) -> str:
        """A condition: the row has a NULL in its key, which so does not tell it from others."""
        missing = (f"{row}.{quote(name)} IS NULL" for name in self.key)
        return f"({' OR '.join(missing) or 'false'})"

    def before(self, start: Position) -> str:
        """A condition: the row has a cursor value before this one, or none."""
        assert self.cursor is not None
        return f"({quote(self.cursor)} < {self.bound(start)} OR {quote(self.cursor)} IS NULL)"

    def same(self, columns: Sequence[str], one: str, other: str) -> str:
        """A condition: the rows are equal in these columns, keys as the source compares them; NULL equals NULL."""
        return " AND ".join(
            f"{self.compared([name], one)} IS NOT DISTINCT FROM {self.compared([name], other)}" for name in columns
        )

    def compared(self, columns: Sequence[str], row: str) -> str:
        """The columns of a row as they are compared, texts of a key in one form for all that are equal."""
        texts = [name for name in columns if name in self.keys and pa.types.is_string(self.schema.field(name).type)]
        values = {name: f"{row}.{quote(name)}" for name in columns}
        return ", ".join(folded(value, self.keys[name] if name in texts else None) for name, value in values.items())

    def value(self, position: Position | None) -> date | datetime | int | None:
        """The position as a value of the cursor column."""
        if self.cursor is None or position is None:
            return None
        value = cursors.bound(position, self.schema.field(self.cursor).type, self.source)
        if isinstance(position, int):
            return position  # a row version is published as the number it is
        assert isinstance(value, date)  # a datetime is one too
        return value

    def bound(self, position: Position) -> str:
        """The same as SQL."""
        value = self.value(position)
        if isinstance(value, int):
            return str(value)
        kind = (
            "TIMESTAMPTZ" if getattr(value, "tzinfo", None) else "TIMESTAMP" if isinstance(value, datetime) else "DATE"
        )
        assert value is not None
        return f"{kind} '{value.isoformat()}'"


@dataclass
class PublishedRows:
    """What stands published of a source."""

    connection: duckdb.DuckDBPyConnection
    source: Source
    folder: Path

    def comparable(self, manifest: Manifest, new: NewRows, columns: Sequence[str] | None = None) -> bool:
        """Whether the publication has the columns, or those that tell versions apart, of types that compare exactly."""
        mine, theirs = new.schema, files.schema_of(manifest)
        return all(
            name in theirs.names and widens(theirs.field(name).type, mine.field(name).type)
            for name in columns or new.version
        )

    def check(
        self,
        manifest: Manifest,
        new: NewRows,
        way_out: str = "run once with mode full",
        columns: Sequence[str] | None = None,
    ) -> None:
        """Refuse to compare what cannot be compared."""
        if not self.comparable(manifest, new, columns):
            raise ConfigurationError(
                f"source {self.source.source!r}: key, cursor or columns have changed since {manifest.window.name} was "
                f"published, so that its rows cannot be compared; {way_out}, which replaces everything"
            )

    def reader(self, manifest: Manifest, file: PublishedFile) -> pa.RecordBatchReader:
        """The rows of a file."""
        self.check_there(manifest, file)
        return files.read(self.folder, manifest, file)

    def register(self, manifest: Manifest, file: PublishedFile) -> None:
        """Make a published file's rows the table `other`."""
        self.connection.register("published_file", self.reader(manifest, file))
        self.connection.execute("CREATE OR REPLACE TEMP TABLE other AS SELECT * FROM published_file")
        self.connection.unregister("published_file")

    def without(self, manifest: Manifest, file: PublishedFile, gone: str, staging: Path) -> Change | None:
        """The registered file less the rows that meet the condition, in its own schema; None if there are none."""
        stays = f"SELECT * FROM other WHERE NOT coalesce({gone}, false)"
        self.connection.execute(f"CREATE OR REPLACE TEMP TABLE kept AS {stays}")
        left = count(self.connection, "kept")
        if left == file.rows:
            return None
        if left == 0:
            return Change(manifest, file, None)
        schema = files.schema_of(manifest)
        kept = self.connection.sql(f"SELECT * FROM kept{order(manifest.partition_by, manifest.key, manifest.cursor)}")
        exact = pa.RecordBatchReader.from_batches(schema, _cast(kept.to_arrow_reader(files.BATCH_ROWS), schema))
        return Change(manifest, file, files.rewrite(manifest, file, exact, staging))

    def check_there(self, manifest: Manifest, file: PublishedFile) -> None:
        """Refuse to go on without a file that a manifest lists."""
        if not (self.folder / file.path).exists():
            raise StorageError(
                f"file {self.folder / file.path} is gone, which the manifest of {manifest.window.name} lists; {RECOVER}"
            )


def extracted(connection: duckdb.DuckDBPyConnection, new: NewRows, columns: Sequence[str]) -> str:
    """These columns of the source, in the form in which they are published, of all rows that were extracted.

    Also of those that were set aside or left out; a value that does not convert was never published: NULL.
    """
    source, parts = new.source, parquet(new.raw)
    kinds = {name: kind for name, kind, *_ in connection.sql(f"DESCRIBE SELECT * FROM {parts}").fetchall()}
    values = [
        f"TRY({converted(source, column, kinds[column])}) AS {quote(published_name(source, column))}"
        for column in columns
    ]
    return f"SELECT {', '.join(values)} FROM {parts}"


def was_extracted(connection: duckdb.DuckDBPyConnection, new: NewRows) -> str:
    """Whether the version of a row of the table `other` was extracted, though it may not be among the new rows."""
    if not new.raw:
        return "false"
    columns = [*new.source.primary_key, *([new.source.cursor.column] if new.source.cursor else [])]
    found = extracted(connection, new, list(dict.fromkeys(columns)))
    return f"EXISTS (SELECT 1 FROM ({found}) AS extracted WHERE {new.same(new.version, 'other', 'extracted')})"


def same(columns: Sequence[str], one: str, other: str) -> str:
    """A condition: the rows have the same values in these columns, byte for byte; NULL equals NULL."""
    return " AND ".join(f"{one}.{quote(name)} IS NOT DISTINCT FROM {other}.{quote(name)}" for name in columns)


def order(partition: str | None, key: Sequence[str], cursor: str | None) -> str:
    """The order of rows in published files: versions of a key by the cursor."""
    names = [quote(name) for name in (partition, *key, cursor if key else None) if name]
    return f" ORDER BY {', '.join(names)}" if names else ""


def moment(value: datetime) -> str:
    """A moment as SQL."""
    return f"TIMESTAMPTZ '{value.isoformat()}'"


def _cast(reader: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in batches(reader):
        yield cast_rows(batch, schema)
