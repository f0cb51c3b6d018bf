"""The XML inside an .xlsx file: one string of cells per row, and the small parts around the sheet.

Cells are made column by column in Arrow. Text is an inline string and never a formula; a number, boolean or date is a
native cell where Excel gives back the same value, and text otherwise (docs/outputs.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.sax.saxutils import escape as escape_markup

import pyarrow as pa
import pyarrow.compute as pc
from openpyxl.utils import get_column_letter

from include.etl.errors import DataError
from include.etl.outputs.text import EMPTY, TEXT, to_text

MAX_CHARACTERS = 32_767
MAX_DIGITS = 15
FLOAT_RANGE = (2.2250738585072014e-308, 9.99999999999999e307)
EPOCH = 25_569  # the serial number of 1970-01-01
FIRST_DATE = 61 - EPOCH  # 1900-03-01: before it Excel counts a 29 February 1900 that never was
DAY_MS = 86_400_000

HEADER_STYLE, TEXT_STYLE, FIRST_STYLE = 1, 2, 3
TEXT_FORMAT = "@"
WIDTHS = {"yyyy-mm-dd": 12, "yyyy-mm-dd hh:mm:ss.000": 24}
MAX_WIDTH = 40

# What XML cannot hold or would change is written _xHHHH_, as the format's standard (ST_Xstring) has it and Excel shows
# it; an underscore that could be taken for the beginning of such a mark is escaped itself.
UNHOLDABLE = r"_x[0-9A-Fa-f]{4}|[\x00-\x08\x0b-\x1f\x{FFFE}\x{FFFF}]"
ESCAPED = re.compile("_(?=x[0-9A-Fa-f]{4})|[\x00-\x08\x0b-\x1f\ufffe\uffff]")
_INLINE = ' t="inlineStr"><is><t xml:space="preserve">'
_INLINE_END = "</t></is></c>"
MARK = re.compile("_x([0-9A-Fa-f]{4})_")


@dataclass(frozen=True)
class Column:
    """Where a column stands in the sheet and how its native cells look."""

    name: str
    type: pa.DataType
    letter: str
    style: int
    format: str

    @property
    def width(self) -> int:
        """In characters; Excel shows ##### in place of a date that is wider than its column."""
        return max(WIDTHS.get(self.format, 10), min(len(self.name) + 2, MAX_WIDTH))


def columns_of(schema: pa.Schema) -> list[Column]:
    """One `Column` per field; columns with the same number format share a style."""
    formats = [_number_format(field.type) for field in schema]
    styles = {code: FIRST_STYLE + i for i, code in enumerate(dict.fromkeys(formats))}
    return [
        Column(field.name, field.type, get_column_letter(i), styles[code], code)
        for i, (field, code) in enumerate(zip(schema, formats, strict=True), start=1)
    ]


def rows_xml(columns: list[Column], batch: pa.RecordBatch, first_row: int) -> pa.Array:
    """One `<row>` per row of the batch; the first of them is row `first_row` of the sheet, counted from 1."""
    numbers = pa.array(range(first_row, first_row + batch.num_rows)).cast(TEXT)
    cells = [_cells(column, batch.column(i), numbers) for i, column in enumerate(columns)]
    inner = pc.binary_join_element_wise(*cells, EMPTY, null_handling="replace", null_replacement="")
    return _join('<row r="', numbers, '">', inner, "</row>")


def header_xml(columns: list[Column]) -> str:
    """The first row: names in bold."""
    cells = (
        f'<c r="{c.letter}1" s="{HEADER_STYLE}"{_INLINE}{escape_markup(escape(c.name))}{_INLINE_END}' for c in columns
    )
    return f'<row r="1">{"".join(cells)}</row>'


def escape(text: str) -> str:
    """Write as _xHHHH_ what XML cannot hold; Excel shows the character itself."""
    return ESCAPED.sub(lambda match: f"_x{ord(match[0]):04X}_", text)


def unescape(text: str) -> str:
    """The inverse of `escape`; openpyxl and pandas leave the marks as they are."""
    return MARK.sub(lambda match: chr(int(match[1], 16)), text)


def _cells(column: Column, values: pa.Array, numbers: pa.Array) -> pa.Array:
    """`<c>` elements, NULL where the value is."""
    text = to_text(column.name, values)
    exact, content = _native(values, text)
    start = _join(f'<c r="{column.letter}', numbers, '" s="')
    if not pc.any(exact).as_py():
        return _text_cells(column, start, text)
    mark = ' t="b"' if pa.types.is_boolean(values.type) else ""
    native = _join(start, f'{column.style}"{mark}><v>', content, "</v></c>")
    if pc.all(exact).as_py():
        return native
    return pc.if_else(exact, native, _text_cells(column, start, pc.if_else(exact, None, text)))


def _text_cells(column: Column, start: pa.Array, text: pa.Array) -> pa.Array:
    _check_length(column, text)
    return _join(start, f'{TEXT_STYLE}"{_INLINE}', _xml_text(text), _INLINE_END)


def _native(values: pa.Array, text: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Which values a native cell gives back exactly (NULL for NULL), and what stands in its `<v>`."""
    type_ = values.type
    if pa.types.is_boolean(type_):
        return pc.is_valid(values), values.cast(pa.int8()).cast(TEXT)
    if pa.types.is_integer(type_) or pa.types.is_decimal(type_):
        return pc.less_equal(_significant_digits(text), MAX_DIGITS), text
    if pa.types.is_floating(type_):
        return _float_fits(values.cast(pa.float64()), text), text
    if pa.types.is_date(type_):
        days = values.cast(pa.date32()).cast(pa.int32())
        return pc.greater_equal(days, FIRST_DATE), pc.add(days, EPOCH).cast(TEXT)
    if pa.types.is_timestamp(type_) and type_.tz is None:
        return _serials(values)
    return pa.array([False] * len(values)), text


def _significant_digits(text: pa.Array) -> pa.Array:
    """How many digits a plain number has; zeros count at the end of a whole number, not after a decimal point."""
    short = pc.replace_substring_regex(text, r"(\.[0-9]*?)0*$", r"\1")
    return pc.utf8_length(pc.utf8_ltrim(pc.replace_substring(short, ".", ""), "-0"))


def _float_fits(values: pa.Array, text: pa.Array) -> pa.Array:
    """Excel has no NaN, no infinity, no negative zero, no subnormal numbers, and ends below the largest float."""
    size = pc.abs(values)
    normal = pc.and_(pc.greater_equal(size, FLOAT_RANGE[0]), pc.less_equal(size, FLOAT_RANGE[1]))
    return pc.or_(normal, pc.equal(text, "0"))


def _serials(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Timestamps as days since 1899-12-30; Excel, openpyxl and pandas keep milliseconds and no more."""
    cut = values.cast(pa.timestamp("ms"), safe=False)
    milliseconds = cut.cast(pa.int64())
    exact = pc.and_(
        pc.equal(cut.cast(values.type, safe=False), values), pc.greater_equal(milliseconds, FIRST_DATE * DAY_MS)
    )
    return exact, pc.add(pc.divide(milliseconds.cast(pa.float64()), float(DAY_MS)), float(EPOCH)).cast(TEXT)


def _xml_text(text: pa.Array) -> pa.Array:
    odd = pc.match_substring_regex(text, UNHOLDABLE)
    if pc.any(odd).as_py():
        escaped = pa.array([escape(value) for value in text.filter(odd).to_pylist()], TEXT)
        text = pc.replace_with_mask(text, odd.fill_null(False), escaped)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = pc.replace_substring(text, character, entity)
    return text


def _check_length(column: Column, text: pa.Array) -> None:
    """Raise DataError for a cell above 32,767 characters, counted as Excel does: an emoji is two."""
    for value in text.filter(pc.greater(pc.utf8_length(text), MAX_CHARACTERS // 2)).to_pylist():
        length = len(value.encode("utf-16-le")) // 2
        if length > MAX_CHARACTERS:
            raise DataError(
                f"column {column.name!r} ({column.type}): a cell has {length:,} characters and Excel holds "
                f"{MAX_CHARACTERS:,}; shorten it in the query, or publish csv or parquet"
            )


def _join(*pieces: pa.Array | str) -> pa.Array:
    """Concatenate row by row; a NULL in any piece gives NULL."""
    return pc.binary_join_element_wise(*(pa.scalar(p, TEXT) if isinstance(p, str) else p for p in pieces), EMPTY)


def _number_format(type_: pa.DataType) -> str:
    if pa.types.is_integer(type_) or (pa.types.is_decimal(type_) and type_.scale <= 0):
        return "0"
    if pa.types.is_decimal(type_):
        decimals: int = min(type_.scale, MAX_DIGITS)
        return "0." + "0" * decimals
    if pa.types.is_date(type_):
        return "yyyy-mm-dd"
    if pa.types.is_timestamp(type_) and type_.tz is None:
        return "yyyy-mm-dd hh:mm:ss.000"
    return TEXT_FORMAT if not (pa.types.is_floating(type_) or pa.types.is_boolean(type_)) else "General"
