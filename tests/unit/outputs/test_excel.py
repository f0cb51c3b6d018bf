"""What workbooks look like to Excel's own rules, to openpyxl and to pandas."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest

from include.etl.errors import DataError
from include.etl.outputs import excel
from include.etl.outputs.excel import ExcelOutput

CURRENT = datetime(2024, 2, 29, 8, 30, 15, 123000)


def cells(values: pa.Array | list[Any], path: Path) -> list[tuple[str, Any, str]]:
    """Type, value and number format of every cell below the header, as openpyxl sees them."""
    ExcelOutput().write(pa.table({"a": values}).to_reader(), path)
    book = openpyxl.load_workbook(path)
    return [(cell.data_type, cell.value, cell.number_format) for (cell,) in book["data"].iter_rows(min_row=2)]


def test_the_sheet_is_called_data_with_a_bold_frozen_header(tmp_path: Path) -> None:
    path = tmp_path / "file.xlsx"
    ExcelOutput().write(pa.table({"visit_id": [1], "<note> & more": ["x"]}).to_reader(), path)
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["data"]
    sheet = book["data"]
    assert [cell.value for cell in sheet[1]] == ["visit_id", "<note> & more"]
    assert all(cell.font.bold for cell in sheet[1])
    assert not any(cell.font.bold for cell in sheet[2])
    assert sheet.freeze_panes == "A2"


@pytest.mark.parametrize(
    "text", ["00123", "1234567890123456", "=1+1", "+65", "-5", "@A1", "1e5", "TRUE", "2024-01-01", "#N/A"]
)
def test_text_stays_text(text: str, tmp_path: Path) -> None:
    assert cells([text], tmp_path / "file.xlsx") == [("s", text, "@")]


def test_numbers_are_numbers_as_long_as_excel_keeps_all_digits(tmp_path: Path) -> None:
    found = cells([10**15 - 1, 10**15, -(10**15) + 1, 1234567890123456], tmp_path / "a.xlsx")
    assert [(kind, value) for kind, value, _ in found] == [
        ("n", 999999999999999),
        ("s", "1000000000000000"),
        ("n", -999999999999999),
        ("s", "1234567890123456"),
    ]
    long = pa.array(
        [Decimal("12345.6789"), Decimal("12345678901.23456"), Decimal("12345678901.2345")], pa.decimal128(38, 20)
    )
    found = cells(long, tmp_path / "b.xlsx")
    assert [(kind, value) for kind, value, _ in found] == [
        ("n", 12345.6789),
        ("s", "12345678901.23456000000000000000"),
        ("n", 12345678901.2345),
    ]


def test_money_shows_its_decimals_and_integers_no_exponent(tmp_path: Path) -> None:
    money = pa.array([Decimal("1.50")], pa.decimal128(10, 2))
    assert cells(money, tmp_path / "a.xlsx") == [("n", 1.5, "0.00")]
    assert cells([123456789012], tmp_path / "b.xlsx") == [("n", 123456789012, "0")]


def test_floats_that_excel_lacks_are_text(tmp_path: Path) -> None:
    found = cells([1.5, 1e300, -0.0, float("nan"), float("-inf"), 5e-324, 1.7e308], tmp_path / "file.xlsx")
    assert [kind for kind, _, _ in found] == ["n", "n", "s", "s", "s", "s", "s"]


def test_booleans_are_booleans(tmp_path: Path) -> None:
    assert [(kind, value) for kind, value, _ in cells([True, False], tmp_path / "f.xlsx")] == [
        ("b", True),
        ("b", False),
    ]


def test_dates_are_dates_from_march_1900_on(tmp_path: Path) -> None:
    found = cells([date(1900, 3, 1), date(9999, 12, 31), date(1900, 2, 28), date(1, 1, 1)], tmp_path / "file.xlsx")
    assert found[:2] == [
        ("d", datetime(1900, 3, 1), "yyyy-mm-dd"),
        ("d", datetime(9999, 12, 31), "yyyy-mm-dd"),
    ]
    assert [cell[:2] for cell in found[2:]] == [("s", "1900-02-28"), ("s", "0001-01-01")]


def test_timestamps_are_dates_down_to_the_millisecond(tmp_path: Path) -> None:
    values = pa.array([CURRENT, CURRENT.replace(microsecond=123456), datetime(1900, 2, 28)], pa.timestamp("us"))
    assert [cell[:2] for cell in cells(values, tmp_path / "file.xlsx")] == [
        ("d", CURRENT),
        ("s", "2024-02-29T08:30:15.123456"),
        ("s", "1900-02-28T00:00:00.000000"),
    ]


def test_zoned_timestamps_are_text(tmp_path: Path) -> None:
    found = cells(pa.array([CURRENT], pa.timestamp("us", "UTC")), tmp_path / "file.xlsx")
    assert found == [("s", "2024-02-29T08:30:15.123000Z", "@")]


def test_null_is_no_cell_and_an_empty_text_an_empty_one(tmp_path: Path) -> None:
    ExcelOutput().write(pa.table({"a": ["", None], "n": [1, 2]}).to_reader(), tmp_path / "file.xlsx")
    with ZipFile(tmp_path / "file.xlsx") as package:
        sheet = package.read("xl/worksheets/sheet1.xml").decode()
    assert '<c r="A2" s="2" t="inlineStr"><is><t xml:space="preserve"></t></is></c>' in sheet
    assert 'r="A3"' not in sheet


def test_columns_are_wide_enough_for_their_dates(tmp_path: Path) -> None:
    ExcelOutput().write(pa.table({"at": [CURRENT], "day": [date(2024, 1, 1)]}).to_reader(), tmp_path / "f.xlsx")
    dimensions = openpyxl.load_workbook(tmp_path / "f.xlsx")["data"].column_dimensions
    assert dimensions["A"].width >= len("2024-02-29 08:30:15.123")
    assert dimensions["B"].width >= len("2024-02-29")


def test_too_many_rows_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert excel.MAX_ROWS == 1_048_576
    monkeypatch.setattr(excel, "MAX_ROWS", 1001)
    assert ExcelOutput().write(pa.table({"a": range(1000)}).to_reader(), tmp_path / "fits.xlsx") == 1000
    with pytest.raises(DataError, match=r"more than 1,000 rows do not fit.*partition_by"):
        ExcelOutput().write(pa.table({"a": range(1001)}).to_reader(), tmp_path / "file.xlsx")


def test_a_sheet_that_excel_cannot_open_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excel, "MAX_SHEET_BYTES", 1 << 20)
    with pytest.raises(DataError, match=r"the sheet passes 1 MiB.*partition_by"):
        ExcelOutput().write(pa.table({"a": ["x" * 1000] * 2000}).to_reader(), tmp_path / "file.xlsx")


def test_too_many_columns_are_refused(tmp_path: Path) -> None:
    table = pa.table([[1]] * 16_385, [f"c{i}" for i in range(16_385)])
    with pytest.raises(DataError, match=r"16,385 columns do not fit.*16,384.*'c16384'"):
        ExcelOutput().write(table.to_reader(), tmp_path / "file.xlsx")
    assert not (tmp_path / "file.xlsx").exists()


@pytest.mark.parametrize("text", ["x" * 32_767, "😀" * 16_383, "é" * 32_767])
def test_the_longest_cell_comes_back(text: str, tmp_path: Path) -> None:
    table = pa.table({"a": [text]})
    ExcelOutput().write(table.to_reader(), tmp_path / "file.xlsx")
    assert ExcelOutput().read(tmp_path / "file.xlsx", table.schema).read_all().equals(table)


@pytest.mark.parametrize("text", ["x" * 32_768, "😀" * 16_384])
def test_a_longer_cell_is_refused_without_showing_it(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^column 'a' \(string\): a cell has 32,768 characters.*32,767") as caught:
        ExcelOutput().write(pa.table({"a": ["short", text]}).to_reader(), tmp_path / "file.xlsx")
    assert text[:20] not in str(caught.value)


def test_the_package_holds_no_time_and_no_author(tmp_path: Path) -> None:
    ExcelOutput().write(pa.table({"a": [1]}).to_reader(), tmp_path / "file.xlsx")
    with ZipFile(tmp_path / "file.xlsx") as package:
        assert {entry.date_time for entry in package.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert not any(name.startswith("docProps") for name in package.namelist())


def test_pandas_reads_what_was_written(tmp_path: Path) -> None:
    table = pa.table(
        {"id": ["0012", "0013"], "fee": pa.array([None, Decimal("1.50")], pa.decimal128(10, 2)), "at": [CURRENT] * 2}
    )
    ExcelOutput().write(table.to_reader(), tmp_path / "file.xlsx")
    frame = pd.read_excel(tmp_path / "file.xlsx")
    assert list(frame["id"].astype(str).str.zfill(4)) == ["0012", "0013"]
    assert list(pd.read_excel(tmp_path / "file.xlsx", dtype={"id": str})["id"]) == ["0012", "0013"]
    assert frame["fee"].sum() == 1.5
    assert frame["at"][0] == pd.Timestamp(CURRENT)
