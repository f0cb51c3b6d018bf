"""Excel workbooks (.xlsx) whose cells are exact: what an Excel number or date cannot hold is written as text.

The sheet is written here and not by openpyxl: cells are joined column by column in Arrow, which is several times
faster, leaves no copy of the data in a temporary folder, and keeps an empty string apart from NULL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import openpyxl
import pyarrow as pa

from include.etl.errors import DataError
from include.etl.outputs.base import Output
from include.etl.outputs.excel_parts import MAX_ROWS, SHEET_NAME, SHEET_PATH, parts, sheet_end, sheet_start
from include.etl.outputs.excel_xml import Column, columns_of, rows_xml, unescape
from include.etl.outputs.files import bounded, check_columns, new_file, reading
from include.etl.outputs.text import TEXT, check_types, from_text, joined

MAX_COLUMNS = 16_384
MAX_SHEET_BYTES = (2 << 30) - 1  # above it a ZIP file needs an extension that makes Excel offer a repair
PIECE_CELLS = 100_000
PIECE_BYTES = 8 << 20
READ_ROWS = 10_000
ROW_END = b"</row>"

Cell = str | int | float | bool | datetime | None


class ExcelOutput(Output):
    """One sheet, `data`; the same rows give the same bytes, whatever the name, the time and the batches."""

    extension = "xlsx"
    partition_column_in_file = True

    def write(self, reader: pa.RecordBatchReader, path: Path) -> int:
        """See `Output.write`."""
        schema = reader.schema
        _check_columns_fit(schema)
        columns = columns_of(schema)
        with new_file(path) as file, ZipFile(file, "w") as package:
            for name, xml in parts(columns).items():
                package.writestr(_entry(name), xml)
            with package.open(_entry(SHEET_PATH), "w") as sheet:
                sheet.write(sheet_start(columns).encode())
                rows = _write_rows(sheet, bounded(reader, max(1, PIECE_CELLS // len(columns)), PIECE_BYTES), columns)
                sheet.write(sheet_end(columns).encode())
        return rows

    def read(self, path: Path, schema: pa.Schema) -> pa.RecordBatchReader:
        """See `Output.read`."""
        return pa.RecordBatchReader.from_batches(schema, _read(path, schema))

    def count(self, path: Path, schema: pa.Schema) -> int:  # noqa: ARG002 - cells are not looked at
        """See `Output.count`."""
        return _count(path)


def _count(path: Path) -> int:
    """Rows below the header, by their end tags, which no cell can hold; reading cells takes 25 times as long."""
    found, tail = 0, b""
    with reading(path), ZipFile(path) as package, package.open(SHEET_PATH) as sheet:
        while piece := sheet.read(PIECE_BYTES):
            found += (tail + piece).count(ROW_END)
            tail = (tail + piece)[1 - len(ROW_END) :]
    return found - 1


def _check_columns_fit(schema: pa.Schema) -> None:
    check_types(schema, "Excel")
    if len(schema) > MAX_COLUMNS:
        raise DataError(
            f"{len(schema):,} columns do not fit into an Excel sheet, which has {MAX_COLUMNS:,}; "
            f"the first too many is {schema.names[MAX_COLUMNS]!r}; select fewer, or publish csv or parquet"
        )


def _write_rows(sheet: IO[bytes], batches: Iterable[pa.RecordBatch], columns: list[Column]) -> int:
    """Write all rows below the header and return how many."""
    rows = size = 0
    for batch in batches:
        if rows + batch.num_rows >= MAX_ROWS:
            raise DataError(
                f"more than {MAX_ROWS - 1:,} rows do not fit into an Excel sheet; "
                "publish smaller partitions (output.partition_by), or csv or parquet"
            )
        xml = joined(rows_xml(columns, batch, first_row=rows + 2))
        rows += batch.num_rows
        size += len(xml)
        if size > MAX_SHEET_BYTES:
            raise DataError(
                f"the sheet passes {MAX_SHEET_BYTES >> 20:,} MiB at row {rows:,}, which Excel does not open; "
                "publish smaller partitions (output.partition_by), or csv or parquet"
            )
        sheet.write(xml)
    return rows


def _entry(name: str) -> ZipInfo:
    """A package member of the year 1980, so that the time of writing does not change the file."""
    entry = ZipInfo(name)
    entry.compress_type = ZIP_DEFLATED
    return entry


def _read(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with reading(path), path.open("rb") as file, closing(openpyxl.load_workbook(file, read_only=True)) as book:
        rows = book[SHEET_NAME].iter_rows(max_col=len(schema), values_only=True)
        check_columns(path, [unescape(str(name)) for name in next(rows)], schema)
        while piece := list(islice(rows, READ_ROWS)):
            yield pa.RecordBatch.from_arrays(
                [_column(values, field.type) for values, field in zip(zip(*piece, strict=True), schema, strict=True)],
                schema=schema,
            )


def _column(cells: tuple[Cell, ...], type_: pa.DataType) -> pa.Array:
    is_date = pa.types.is_date(type_)
    return from_text(pa.array([None if cell is None else _text(cell, is_date) for cell in cells], TEXT), type_)


def _text(cell: Cell, is_date: bool) -> str:
    """The text form of a cell's value, as `from_text` takes it."""
    if isinstance(cell, str):
        return unescape(cell)
    if isinstance(cell, datetime):
        return (cell.date() if is_date else cell).isoformat()
    return str(cell).lower() if isinstance(cell, bool) else repr(cell)
