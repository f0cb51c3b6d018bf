"""The suites of the demo sources on good rows, on no rows and on rows that must not pass."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from include.etl.validation import Reference, Verdict, validate

from .conftest import WriteRows

EXPECTATIONS = Path(__file__).parents[3] / "include" / "expectations"
DAY, NOW = date(2024, 5, 1), datetime(2024, 5, 1, 8)
COLUMNS = {
    "polyclinic_patients": {
        "patient_id": pa.int64(),
        "nric": pa.string(),
        "full_name": pa.string(),
        "birth_date": pa.date32(),
        "sex": pa.string(),
        "postal_code": pa.string(),
        "updated_at": pa.timestamp("us"),
    },
    "nehr_diagnoses": {
        "diagnosis_id": pa.int64(),
        "patient_id": pa.int64(),
        "icd10_code": pa.string(),
        "diagnosed_on": pa.date32(),
        "severity": pa.string(),
        "recorded_at": pa.timestamp("us"),
    },
    "dw_reference_codes": {
        "code_system": pa.string(),
        "code": pa.string(),
        "display": pa.string(),
        "valid_from": pa.date32(),
        "valid_to": pa.date32(),
    },
}
GOOD: dict[str, list[tuple[Any, ...]]] = {
    "polyclinic_patients": [
        (1, "S1234567D", "Tan Ah Kow", DAY, "M", "129588", NOW),
        (2, "T7654321Z", "Siti", DAY, "F", "018956", NOW),
    ],
    "nehr_diagnoses": [(1, 1, "J06.9", DAY, "MILD", NOW), (2, 1, "I10", DAY, None, NOW)],
    "dw_reference_codes": [("ICD-10", "J06.9", "Cold", DAY, None), ("LOCAL", "J06.9", "Cold", DAY, DAY)],
}


def check(source: str, rows: list[tuple[Any, ...]], write_rows: WriteRows, tmp_path: Path) -> Verdict:
    schema = pa.schema(list(COLUMNS[source].items()))
    part = write_rows([dict(zip(schema.names, row, strict=True)) for row in rows], schema)
    known = write_rows([{"code": "J06.9"}, {"code": "I10"}], pa.schema([("code", pa.string())]), "codes.parquet")
    references = [Reference("dw_reference_codes", [known])]
    return validate(source, [part], EXPECTATIONS / f"{source}.json", references, tmp_path / "results", 200)


@pytest.mark.parametrize("source", COLUMNS)
def test_good_rows_pass(source: str, write_rows: WriteRows, tmp_path: Path) -> None:
    verdict = check(source, GOOD[source], write_rows, tmp_path)
    assert (verdict.critical, verdict.warnings) == ([], [])


@pytest.mark.parametrize("source", COLUMNS)
def test_no_rows_pass_except_for_reference_codes(source: str, write_rows: WriteRows, tmp_path: Path) -> None:
    verdict = check(source, [], write_rows, tmp_path)
    assert verdict.success is (source != "dw_reference_codes")
    assert verdict.warnings == []


@pytest.mark.parametrize(
    ("source", "column", "value", "severity"),
    [
        ("polyclinic_patients", "patient_id", 2, "critical"),
        ("polyclinic_patients", "nric", "1234", "critical"),
        ("polyclinic_patients", "sex", "X", "warning"),
        ("polyclinic_patients", "postal_code", "12", "warning"),
        ("polyclinic_patients", "birth_date", date(2999, 1, 1), "warning"),
        ("nehr_diagnoses", "patient_id", None, "critical"),
        ("nehr_diagnoses", "icd10_code", "Z99.9", "warning"),
        ("nehr_diagnoses", "severity", "AWFUL", "warning"),
        ("nehr_diagnoses", "diagnosed_on", date(2025, 1, 1), "warning"),
        ("dw_reference_codes", "display", None, "critical"),
        ("dw_reference_codes", "code_system", "LOCAL", "critical"),
        ("dw_reference_codes", "valid_to", date(1999, 1, 1), "warning"),
    ],
)
def test_a_bad_value_is_found(
    source: str, column: str, value: Any, severity: str, write_rows: WriteRows, tmp_path: Path
) -> None:
    first, *others = GOOD[source]
    bad = tuple(value if name == column else old for name, old in zip(COLUMNS[source], first, strict=True))
    verdict = check(source, [bad, *others], write_rows, tmp_path)
    assert {failure.severity for failure in verdict.critical + verdict.warnings} == {severity}
