"""Prepares a publication aside: its own files, and other publications' files without the rows that give way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from include.etl import duck
from include.etl.publication import deletes, files
from include.etl.publication.added import AddedRows
from include.etl.publication.merge import Merge
from include.etl.publication.overlap import Overlap
from include.etl.publication.rows import Change, NewRows, PublishedRows
from include.etl.records.manifest import Manifest, PublishedFile


@dataclass(frozen=True)
class Prepared:
    """What lies in the staging folder."""

    files: list[PublishedFile]
    """The new files, below `new`."""
    changes: list[Change]
    """What becomes of other publications' files, below `rewritten`."""
    settled: Path
    """Rows of this run in the new files."""
    interim: Path
    """All rows of the new files."""
    kept: int
    deleted: int

    @property
    def published(self) -> int:
        """Rows of this run in the new files."""
        rows: int = pq.read_metadata(self.interim).num_rows
        return rows - self.kept - self.deleted


def prepare(new: NewRows, standing: Sequence[Manifest], folder: Path, staging: Path) -> Prepared:
    """Write everything below `staging`."""
    source, window, scratch = new.source, new.window, staging / "keys"
    with duck.session(source.memory_limit_mb, staging / ".scratch") as connection:
        connection.execute("SET parquet_metadata_cache = false")  # there may be thousands of files, each read once
        rows = PublishedRows(connection, source, folder)
        added = AddedRows(rows, new)
        merging = source.load == "merge"
        strategy = Merge(rows, new, standing, added, scratch) if merging else Overlap(rows, new, standing, added)
        settled = strategy.settle(staging / "settled.parquet")
        kept = len(added)
        if source.deletes == "mark" and window.mode == "full" and not new.keep:
            deletes.mark(rows, new, standing, added, scratch / "full")
        deleted = len(added) - kept
        interim = added.combined(settled, staging / "interim.parquet")
        written = files.write(source, window, interim, staging / "new", new.cursor)
        changes = strategy.changes(interim, staging / "rewritten")
        return Prepared(written, changes, settled, interim, kept, deleted)
