"""Cuts rows into ranges of the column that they are sorted by first: each is sorted by itself, in little memory.

Rows mostly come out of a database near the place where they belong, so a range lies in few row groups of its files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from include.etl.duck import text

RANGE_ROWS, RANGE_BYTES = 65_536, 12 << 20
MOST_READ = 5.0
"""How often a row may be read, on average; where ranges lie all over the files, sorting all rows at once is faster.

Measured: rows that are read three times take 7 s per 6 million, all at once 12 s. A scan that PostgreSQL lets begin in
the middle of a table leaves one row group with both ends of it, which every range reads.
"""
KINDS = {int, date, datetime, Decimal}
"""Types whose order is the same in Parquet's statistics and in DuckDB."""


class Group(NamedTuple):
    """A row group: the ends of the column in it, its rows and their bytes."""

    low: Any
    high: Any
    rows: int
    bytes: int


def conditions(parts: Sequence[Path], column: str, kind: str, name: str) -> list[str]:
    """Conditions on `name`, of DuckDB's type `kind`, one for each range and in order; none where cutting does not pay.

    `column` is what the files call it.
    """
    groups = list(_groups(parts, column))
    if not all(type(end) in KINDS for group in groups for end in (group.low, group.high)):
        return []
    edges = _edges(sorted(groups))
    if not edges:
        return []
    spans = list(zip([None, *edges], [*edges, None], strict=True))
    read = sum(group.rows for low, high in spans for group in groups if _meets(group, low, high))
    if read > MOST_READ * sum(group.rows for group in groups):
        return []
    literals = [f"{text(str(edge))}::{kind}" for edge in edges]
    inner = [f"{name} >= {low} AND {name} < {high}" for low, high in pairwise(literals)]
    return [f"{name} < {literals[0]}", *inner, f"({name} >= {literals[-1]} OR {name} IS NULL)"]


def _groups(parts: Sequence[Path], column: str) -> Iterator[Group]:
    """Row groups with the column's ends, which are None where there are no statistics."""
    for part in parts:
        metadata = pq.read_metadata(part)
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            chunks = map(group.column, range(group.num_columns))
            known = next((chunk.statistics for chunk in chunks if chunk.path_in_schema == column), None)
            missing = known.null_count if known else 0
            if missing != group.num_rows:  # rows without value are in the last range; an empty group is in none
                low, high = (known.min, known.max) if known and known.has_min_max else (None, None)
                yield Group(low, high, group.num_rows, group.total_byte_size)


def _edges(groups: Sequence[Group]) -> list[Any]:
    """Where one range ends and the next begins."""
    edges: list[Any] = []
    rows = size = 0
    for group in groups:
        if (rows >= RANGE_ROWS or size >= RANGE_BYTES) and group.low > (edges[-1] if edges else groups[0].low):
            edges.append(group.low)
            rows = size = 0
        rows, size = rows + group.rows, size + group.bytes
    return edges


def _meets(group: Group, low: Any, high: Any) -> bool:
    return (low is None or group.high >= low) and (high is None or group.low < high)
