"""Batches to one Parquet file with the settings of our own raw parts, for contenders that bring no writer."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write(batches: Iterable[pa.RecordBatch | pa.Table], schema: pa.Schema, folder: Path) -> None:
    """One row group per batch."""
    with pq.ParquetWriter(folder / "rows.parquet", schema, compression="zstd", compression_level=1) as writer:
        for batch in batches:
            writer.write(batch)


def write_frames(frames: Iterable[Any], folder: Path) -> None:
    """pandas frames, of whose types the first one decides."""
    tables = (pa.Table.from_pandas(frame, preserve_index=False) for frame in frames)
    first = next(tables)
    write(chain([first], tables), first.schema, folder)
