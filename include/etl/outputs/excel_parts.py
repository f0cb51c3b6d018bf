"""The small parts of an .xlsx package around the rows: no date, no author, so that equal rows give equal files."""

from __future__ import annotations

from include.etl.outputs.excel_xml import TEXT_FORMAT, Column, header_xml

SHEET_PATH = "xl/worksheets/sheet1.xml"
SHEET_NAME = "data"
MAX_ROWS = 1_048_576

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_MIME = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_FIRST_FORMAT = 164  # lower numbers are Excel's own


def parts(columns: list[Column]) -> dict[str, str]:
    """Every part but the sheet: its path in the package and its XML."""
    return {
        "[Content_Types].xml": f'{_XML}<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_MIME}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{_MIME}.styles+xml"/>'
        f'<Override PartName="/{SHEET_PATH}" ContentType="{_MIME}.worksheet+xml"/></Types>',
        "_rels/.rels": _relationships(("officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": f'{_XML}<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><bookViews><workbookView/></bookViews>'
        f'<sheets><sheet name="{SHEET_NAME}" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relationships(
            ("worksheet", SHEET_PATH.removeprefix("xl/")), ("styles", "styles.xml")
        ),
        "xl/styles.xml": _styles({column.style: column.format for column in columns}),
    }


def sheet_start(columns: list[Column]) -> str:
    """The sheet up to and including its header row, which stays visible when scrolling."""
    widths = "".join(f'<col min="{i}" max="{i}" width="{c.width}" customWidth="1"/>' for i, c in enumerate(columns, 1))
    return (
        f'{_XML}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
        '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
        f"<cols>{widths}</cols><sheetData>{header_xml(columns)}"
    )


def sheet_end(columns: list[Column]) -> str:
    """The sheet after its last row; identifiers kept as text are not marked as mistakes."""
    area = f"A1:{columns[-1].letter}{MAX_ROWS}"
    return (
        f'</sheetData><ignoredErrors><ignoredError sqref="{area}" numberStoredAsText="1"/></ignoredErrors></worksheet>'
    )


def _relationships(*targets: tuple[str, str]) -> str:
    items = "".join(
        f'<Relationship Id="rId{i}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for i, (kind, target) in enumerate(targets, 1)
    )
    return f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">{items}</Relationships>'


def _styles(formats: dict[int, str]) -> str:
    """Cell styles in the order of their numbers: plain, header, text, then one per number format."""
    codes = [TEXT_FORMAT, *(formats[style] for style in sorted(formats))]
    number_formats = "".join(f'<numFmt numFmtId="{_FIRST_FORMAT + i}" formatCode="{c}"/>' for i, c in enumerate(codes))
    cell_formats = [_cell_format(0, font=0), _cell_format(_FIRST_FORMAT, font=1)]
    cell_formats += [_cell_format(_FIRST_FORMAT + i, font=0) for i in range(len(codes))]
    font = '<sz val="11"/><name val="Calibri"/><family val="2"/>'
    return (
        f'{_XML}<styleSheet xmlns="{_MAIN}"><numFmts count="{len(codes)}">{number_formats}</numFmts>'
        f'<fonts count="2"><font>{font}</font><font><b/>{font}</font></fonts>'
        '<fills count="2"><fill><patternFill patternType="none"/></fill>'
        '<fill><patternFill patternType="gray125"/></fill></fills>'
        '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
        '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
        f'<cellXfs count="{len(cell_formats)}">{"".join(cell_formats)}</cellXfs>'
        '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
    )


def _cell_format(number_format: int, font: int) -> str:
    return (
        f'<xf numFmtId="{number_format}" fontId="{font}" fillId="0" borderId="0" xfId="0" '
        'applyNumberFormat="1" applyFont="1"/>'
    )
