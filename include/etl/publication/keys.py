"""The keys of published rows, beside when they were read and the file they lie in: what merging and deletes look up.

Of Parquet only these columns are read, and of them only the row groups that a join cannot rule out. Other formats have
to be read as a whole, so a publication's Parquet files answer for its other formats too: all hold the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from include.etl.duck import parquet, quote, text
from include.etl.handover import DELETED_AT
from include.etl.publication.files import NO_VALUE, schema_of
from include.etl.publication.rows import NewRows, PublishedRows
from include.etl.records.manifest import Manifest, PublishedFile

FILE, CURSOR, READ, GONE = "__file", "__cursor", "__read", "__gone"
"""Columns beside the key: the file's number, the cursor, when the row was read, since when it is marked as deleted."""


@dataclass
class Keys:
    """Numbers the files it is asked for, and gives their keys."""

    rows: PublishedRows
    new: NewRows
    scratch: Path
    files: list[tuple[Manifest, PublishedFile]] = field(default_factory=list)
    """The files by their numbers."""

    def of(self, manifests: Sequence[Manifest], *, marked_only: bool = False) -> str | None:
        """A relation of the keys in these publications, or in their files with rows that are marked as deleted.

        Files of the same columns are one table, of which DuckDB opens a few at a time: there may be thousands.
        """
        alike: dict[tuple[str, str | None], list[tuple[Manifest, PublishedFile]]] = {}
        for manifest in manifests:
            for file in one_format(manifest):
                if file.deleted or not marked_only:
                    self.rows.check_there(manifest, file)
                    partition = manifest.partition_by if file.format == "parquet" else None
                    alike.setdefault((manifest.arrow_schema, partition), []).append((manifest, file))
        selects = [self._select(chosen, partition) for (_, partition), chosen in alike.items()]
        return f"({' UNION ALL '.join(selects)})" if selects else None

    def _select(self, chosen: Sequence[tuple[Manifest, PublishedFile]], partition: str | None) -> str:
        """`partition` is the column that the files leave out, since their folders are named after it."""
        first, schema = len(self.files), schema_of(chosen[0][0])
        paths = [self._path(manifest, file, first + number) for number, (manifest, file) in enumerate(chosen)]
        self.files += chosen
        days = [file.partition for _, file in chosen]
        values = ", ".join(f"DATE '{day}'" if day not in (None, NO_VALUE) else "NULL::DATE" for day in days)

        def column(name: str) -> str:
            return f"([{values}])[file_index::BIGINT + 1]" if name == partition else quote(name)

        gone = DELETED_AT if DELETED_AT in schema.names else "NULL::TIMESTAMPTZ"
        columns = [f"{column(name)} AS {quote(name)}" for name in self.new.key]
        columns += [f"{column(self.new.cursor) if self.new.cursor else 'NULL'} AS {CURSOR}"]
        columns += [f"_extracted_at AS {READ}", f"{gone} AS {GONE}", f"({first} + file_index)::INTEGER AS {FILE}"]
        return f"SELECT {', '.join(columns)} FROM {parquet(paths, alike=True)}"

    def _path(self, manifest: Manifest, file: PublishedFile, number: int) -> Path:
        is_parquet = file.format == "parquet"
        return self.rows.folder / file.path if is_parquet else self._as_parquet(manifest, file, number)

    def _as_parquet(self, manifest: Manifest, file: PublishedFile, number: int) -> Path:
        self.scratch.mkdir(parents=True, exist_ok=True)
        path, connection = self.scratch / f"{number}.parquet", self.rows.connection
        connection.register("published_file", self.rows.reader(manifest, file))
        connection.execute(f"COPY (SELECT * FROM published_file) TO {text(str(path))} (FORMAT parquet)")
        connection.unregister("published_file")
        return path


def one_format(manifest: Manifest) -> list[PublishedFile]:
    """The files of a publication in one format, Parquet where there is any."""
    formats = {file.format for file in manifest.files}
    chosen = "parquet" if "parquet" in formats else manifest.files[0].format
    return [file for file in manifest.files if file.format == chosen]
