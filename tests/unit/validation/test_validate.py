"""A validation as the phase calls it: verdict, files, and no value of a row in any of them."""

from __future__ import annotations

import json
import logging
import socket
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.etl.errors import ConfigurationError, StorageError
from include.etl.validation import Reference, validate

from .conftest import ROWS, Check, WriteRows

EXPECTATIONS = Path(__file__).parents[3] / "include" / "expectations"
SECRET = "S1234567D"
NOT_NULL = "expect_column_values_to_not_be_null"


def test_severity_decides(check: Check) -> None:
    broken = {"column": "code"}
    verdict = check((NOT_NULL, broken, "warning"), (NOT_NULL, broken, "info"), (NOT_NULL, {"column": "id"}))
    assert verdict.success
    assert [(failure.column, failure.unexpected_count) for failure in verdict.warnings] == [("code", 1)]
    assert verdict.critical == []
    assert (verdict.rows, verdict.expectations) == (5, 3)
    assert not check((NOT_NULL, broken)).success, "critical is the default"
    json.dumps(asdict(verdict))


def test_no_value_of_a_row_leaves(check: Check, caplog: Any, capfd: Any) -> None:
    """Every way GX has of showing values: samples, observed values, queries, errors."""
    rows = [{**row, "code": SECRET, "nr": 987654321, "day": date(1907, 5, 3)} for row in ROWS]
    caplog.set_level(logging.DEBUG)
    numbers = {"column": "nr", "max_value": 1}
    quantiles = {"column": "nr", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[1, 2]]}}
    verdict = check(
        ("expect_column_values_to_be_in_set", {"column": "code", "value_set": ["A"]}),
        ("expect_column_values_to_match_regex", {"column": "code", "regex": "^A"}),
        ("expect_column_values_to_be_unique", {"column": "code"}),
        ("expect_compound_columns_to_be_unique", {"column_list": ["code", "nr"]}),
        ("expect_column_distinct_values_to_be_in_set", {"column": "code", "value_set": ["A"]}),
        ("expect_column_distinct_values_to_equal_set", {"column": "code", "value_set": ["A"]}),
        ("expect_column_most_common_value_to_be_in_set", {"column": "code", "value_set": ["A"]}),
        ("expect_column_pair_values_to_be_equal", {"column_A": "nr", "column_B": "id"}),
        ("expect_column_max_to_be_between", {"column": "day", "max_value": "1900-01-01"}),
        *[(f"expect_column_{name}_to_be_between", numbers) for name in ("min", "max", "mean", "median", "sum")],
        ("expect_column_quantile_values_to_be_between", quantiles),
        ("unexpected_rows_expectation", {"unexpected_rows_query": "SELECT * FROM {batch}"}),
        rows=rows,
    )
    assert len(verdict.critical) == 16
    written = Path(verdict.result_json).read_text() + Path(verdict.report_html).read_text() + repr(verdict)
    out = capfd.readouterr()
    for value in (SECRET, "987654321", "987,654,321", "4938271605", "1907"):
        assert value not in written + caplog.text + out.out + out.err


def test_errors_quote_no_row(check: Check, caplog: Any, capfd: Any) -> None:
    rows = [{**row, "code": SECRET} for row in ROWS]
    with pytest.raises(ConfigurationError) as error:
        check(("unexpected_rows_expectation", {"unexpected_rows_query": "SELECT code::INT FROM {batch}"}), rows=rows)
    out = capfd.readouterr()
    assert SECRET not in str(error.value) + caplog.text + out.out + out.err
    assert error.value.__cause__ is None


def test_sql_rules_read_the_rows_and_nothing_else(check: Check, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(SECRET)
    query = f"SELECT * FROM {{batch}} WHERE code IN (SELECT content FROM read_text('{other}'))"
    with pytest.raises(ConfigurationError, match="Permission") as error:
        check(("unexpected_rows_expectation", {"unexpected_rows_query": query}))
    assert SECRET not in str(error.value)


def test_an_sql_rule_may_join_a_reference(check: Check, write_rows: WriteRows) -> None:
    reference = Reference("known", [write_rows(ROWS[:2], name="known.parquet")])
    kwargs = {"column": "id", "reference": "known", "reference_column": "id"}
    query = "SELECT b.id FROM {batch} AS b LEFT JOIN known k ON k.id = b.id WHERE k.id IS NULL"
    verdict = check(
        ("expect_column_values_to_exist_in_reference", kwargs),
        ("unexpected_rows_expectation", {"unexpected_rows_query": query}),
        references=[reference],
    )
    assert [failure.unexpected_count for failure in verdict.critical] == [3, 3]


def test_parts_are_read_together_whatever_their_names(check: Check, write_rows: WriteRows, tmp_path: Path) -> None:
    folder = tmp_path / "it's [a] *folder?" / "day=2024-01-01"
    folder.mkdir(parents=True)
    parts = [write_rows(ROWS[:2], name=str(folder / "0.parquet")), write_rows(ROWS[2:], name=str(folder / "1.parquet"))]
    verdict = check(("expect_table_row_count_to_equal", {"value": 5}), parts=parts)
    assert verdict.success
    assert verdict.rows == 5


def test_a_broken_part_is_a_storage_error(check: Check, tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(StorageError, match=r"'batch' cannot be read"):
        check((NOT_NULL, {"column": "id"}), parts=[tmp_path / "broken.parquet"])
    with pytest.raises(StorageError, match="cannot be read"):
        check((NOT_NULL, {"column": "id"}), parts=[tmp_path / "none.parquet"])


def test_results_that_cannot_be_written(write_rows: WriteRows, write_suite: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    suite = write_suite((NOT_NULL, {"column": "id"}))
    with pytest.raises(StorageError, match="file"):
        validate("visits", [write_rows(ROWS)], suite, [], tmp_path / "file" / "results", 200)


def test_only_the_two_results_remain(check: Check, tmp_path: Path) -> None:
    verdict = check((NOT_NULL, {"column": "id"}))
    results = tmp_path / "results"
    assert sorted(path.name for path in results.iterdir()) == ["validation.html", "validation.json"]
    assert (verdict.result_json, verdict.report_html) == tuple(
        str(results / name) for name in ("validation.json", "validation.html")
    )
    assert [oct(path.stat().st_mode & 0o777) for path in results.iterdir()] == ["0o640", "0o640"]
    assert not (tmp_path / "gx").exists()


def test_great_expectations_calls_nobody(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"a connection to {args!r}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert check((NOT_NULL, {"column": "id"})).success


def test_memory_limit_holds(write_rows: WriteRows, write_suite: Any, tmp_path: Path) -> None:
    """Uniqueness of a million texts spills to disk in 60 MB instead of failing."""
    part = tmp_path / "many.parquet"
    texts = pa.array([f"{number:032d}" for number in range(1_000_000)])
    pq.write_table(pa.table({"code": texts}), part)
    suite = write_suite(("expect_column_values_to_be_unique", {"column": "code"}))
    assert validate("visits", [part], suite, [], tmp_path / "results", 60).success


class Tags(HTMLParser):
    """Collects tags and what they would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_report_escapes_and_loads_nothing(write_rows: WriteRows, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    suite = tmp_path / "suite.json"
    rule = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "code", "value_set": [evil]}}
    suite.write_text(json.dumps({"name": evil, "expectations": [{**rule, "description": evil}, rule]}))
    verdict = validate(evil, [write_rows(ROWS)], suite, [], tmp_path / "results", 200, {evil: evil, "Run": "r-1"})
    page = Path(verdict.report_html).read_text()
    parsed = Tags()
    parsed.feed(page)
    assert "script" not in parsed.tags
    assert parsed.loads == []
    assert "url(" not in page
    assert "@import" not in page
    assert "&lt;script&gt;" in page
    assert "r-1" in page


def test_report_shows_failures_first(check: Check) -> None:
    verdict = check(
        (NOT_NULL, {"column": "id"}),
        (NOT_NULL, {"column": "code"}, "warning"),
        ("expect_column_values_to_be_between", {"column": "nr", "max_value": 10}),
    )
    page = Path(verdict.report_html).read_text()
    rows = [row for row in page.split("<tr>") if 'class="tag ' in row]
    assert [row.split("</span>")[0].rsplit(">", 1)[1] for row in rows] == ["failed", "failed", "passed"]
    assert "between" in rows[0]
    assert "80 %" in rows[0]
    assert "<h1>Failed</h1>" in page


NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC).replace(tzinfo=None)
VISITS = pa.schema(
    [
        ("visit_id", pa.int64()),
        ("patient_id", pa.int64()),
        ("clinic_code", pa.string()),
        ("visit_date", pa.date32()),
        ("visit_type", pa.string()),
        ("diagnosis_code", pa.string()),
        ("systolic_bp", pa.int32()),
        ("fee", pa.decimal128(10, 2)),
        ("created_at", pa.timestamp("us")),
        ("updated_at", pa.timestamp("us")),
    ]
)


def visits(count: int) -> list[dict[str, Any]]:
    good = {
        "clinic_code": "PC-07",
        "visit_date": NOW.date(),
        "visit_type": "CONSULT",
        "diagnosis_code": "J06.9",
        "systolic_bp": 120,
        "fee": Decimal("12.50"),
        "created_at": NOW,
        "updated_at": NOW,
    }
    return [{**good, "visit_id": number, "patient_id": number % 50} for number in range(count)]


def check_visits(rows: list[dict[str, Any]], write_rows: WriteRows, tmp_path: Path) -> Any:
    keys = [{"patient_id": number} for number in range(50)]
    part = write_rows(keys, pa.schema([("patient_id", pa.int64())]), "patients.parquet")
    references = [Reference("patients", [part]), Reference("polyclinic_patients", [part])]
    suite = EXPECTATIONS / "polyclinic_visits.json"
    return validate("polyclinic_visits", [write_rows(rows, VISITS)], suite, references, tmp_path / "results", 200)


def test_shipped_visits_suite_on_good_rows_and_none(write_rows: WriteRows, tmp_path: Path) -> None:
    for rows in (visits(200), []):
        verdict = check_visits(rows, write_rows, tmp_path)
        assert (verdict.critical, verdict.warnings) == ([], [])


def test_shipped_visits_suite_on_the_bad_rows_of_the_demo(write_rows: WriteRows, tmp_path: Path) -> None:
    rows = visits(2000)
    rows[0]["systolic_bp"] = 999
    rows[1]["diagnosis_code"] = "??"
    rows[2]["visit_date"] = datetime.now(UTC).date() + timedelta(days=40)
    rows[3]["visit_id"] = 4
    verdict = check_visits(rows, write_rows, tmp_path)
    assert verdict.success
    assert [failure.unexpected_count for failure in verdict.warnings] == [1, 1, 2, 1]


@pytest.mark.parametrize(
    "bad", [{"visit_id": None}, {"patient_id": None}, {"fee": Decimal("-0.01")}, {"visit_date": None}, {"orphans": 1}]
)
def test_shipped_visits_suite_stops_on_what_is_critical(
    bad: dict[str, Any], write_rows: WriteRows, tmp_path: Path
) -> None:
    rows = visits(60)
    if "orphans" in bad:
        rows[0]["patient_id"] = 10_001
    else:
        rows[0] |= bad
    assert not check_visits(rows, write_rows, tmp_path).success
