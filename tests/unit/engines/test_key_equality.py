"""Which texts each database takes for equal, by what it tells of a result's column; and how they are compared here."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from include.etl.engines import mssql_catalog, oracle_catalog
from include.etl.engines.mssql_types import Column, described
from include.etl.engines.mysql_catalog import compared
from include.etl.errors import ConfigurationError
from include.etl.handover import KeyEquality
from include.etl.key_equality import folded

MYSQL = {
    "utf8mb4_bin": {"blanks": True},
    "latin1_bin": {"blanks": True},
    "utf8mb4_nopad_bin": None,
    "utf8mb4_0900_bin": None,
    "binary": None,
    "utf8mb4_general_ci": {"case": True, "blanks": True, "ascii_only": True},
    "latin1_swedish_ci": {"case": True, "blanks": True, "ascii_only": True},
    "utf8mb4_unicode_520_nopad_ci": {"case": True, "ascii_only": True},
    "utf8mb4_0900_ai_ci": {"case": True, "ascii_only": True},
    "utf8mb4_0900_as_cs": {"ascii_only": True},
    "utf8mb4_uca1400_ai_ci": {"case": True, "blanks": True, "ascii_only": True},
    "utf8mb4_uca1400_nopad_as_cs": {"ascii_only": True},
    "latin1_general_cs": {"blanks": True, "ascii_only": True},
}


@pytest.mark.parametrize(("collation", "expected"), MYSQL.items())
def test_collations_of_mysql_and_mariadb(collation: str, expected: dict[str, Any] | None) -> None:
    assert compared(collation, "code") == (KeyEquality(collation=collation, **expected) if expected else None)


@pytest.mark.parametrize(
    "collation",
    [
        "utf8mb4_czech_ci",
        "utf8mb4_da_0900_ai_ci",
        "utf8mb4_uca1400_turkish_ai_ci",
        "utf8mb4_hu_0900_ai_ci",
        "big5_chinese_ci",
    ],
)
def test_languages_whose_letters_are_several_characters_are_unknown(collation: str) -> None:
    found = compared(collation, "code")
    assert found is not None
    assert collation in found.unknown
    assert "lower(code)" in found.unknown


MSSQL: dict[tuple[str, str], dict[str, Any] | None] = {
    ("nvarchar(20)", "Latin1_General_BIN2"): {"blanks": True},
    ("varchar(20)", "Latin1_General_100_BIN2_UTF8"): {"blanks": True},
    ("char(5)", "Latin1_General_BIN"): {"blanks": True},
    ("varchar(20)", "SQL_Latin1_General_CP1_CI_AS"): {"case": True, "blanks": True, "ascii_only": True},
    ("nvarchar(20)", "Latin1_General_100_CI_AI_SC_UTF8"): {"case": True, "blanks": True, "ascii_only": True},
    ("nchar(20)", "Cyrillic_General_CS_AS"): {"blanks": True, "ascii_only": True},
    ("uniqueidentifier", ""): None,
}


@pytest.mark.parametrize(("kind", "collation"), MSSQL)
def test_collations_of_sql_server(kind: str, collation: str) -> None:
    expected = MSSQL[kind, collation]
    found = mssql_catalog.key_equality(_column(kind, collation))
    assert found == (KeyEquality(collation=collation, **expected) if expected else None)


@pytest.mark.parametrize(
    ("kind", "collation", "reason"),
    [
        ("nvarchar(20)", "Turkish_CI_AS", "Turkish_CI_AS"),
        ("varchar(20)", "Danish_Norwegian_CI_AS", "Danish_Norwegian_CI_AS"),
        ("datetimeoffset(7)", "", "datetimeoffset"),
        ("sql_variant", "", "sql_variant"),
    ],
)
def test_what_sql_server_compares_in_ways_of_its_own_is_unknown(kind: str, collation: str, reason: str) -> None:
    found = mssql_catalog.key_equality(_column(kind, collation))
    assert found is not None
    assert reason in found.unknown


def test_a_server_that_tells_no_collation_is_not_guessed_at() -> None:
    found = mssql_catalog.key_equality(Column("code", "nvarchar", 40, 0, 0))
    assert found == KeyEquality(untold="the server does not tell its collation")


def _column(kind: str, collation: str) -> Column:
    row = {"name": "code", "system_type_name": kind, "max_length": 40, "collation_name": collation or None}
    return described(row, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("collation", ["BINARY", "USING_NLS_COMP", None, "BINARY_CI", "ORA-00904"])
def test_collations_of_oracle(collation: str | None, padded: bool) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def ask(sql: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        asked.append((sql, values))
        if collation == "ORA-00904":  # before 12.2
            raise ConfigurationError('ORA-00904: "COLLATION": invalid identifier')
        return [(collation,)]

    found = oracle_catalog.key_equality(ask, "select code from t where a < :b", {"b": 1}, "CODE", padded=padded)
    ((sql, values),) = asked
    assert (values, 'collation(q."CODE")' in sql, "where a < :b" in sql) == ({"b": 1}, True, True)
    if collation == "BINARY_CI":
        assert found is not None
        assert "BINARY_CI" in found.unknown
    elif collation is None:
        assert found is not None
        assert found.untold
    else:
        assert found == (KeyEquality(collation="CHAR", blanks=True) if padded else None)


def test_other_errors_of_oracle_are_errors() -> None:
    def ask(sql: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        raise ConfigurationError("ORA-01013: timed out")

    with pytest.raises(ConfigurationError, match="ORA-01013"):
        oracle_catalog.key_equality(ask, "select 1", {}, "CODE", padded=False)


@pytest.mark.parametrize(
    ("equality", "one", "other", "equal"),
    [
        (KeyEquality(case=True), "abcxyz", "ABCXYZ", True),
        (KeyEquality(case=True), "é", "É", False),
        (KeyEquality(case=True), "a", "a ", False),
        (KeyEquality(case=True), "[", "{", False),
        (KeyEquality(blanks=True), "a", "a   ", True),
        (KeyEquality(blanks=True), "a", " a", False),
        (KeyEquality(blanks=True), "a", "a\t", False),
        (KeyEquality(blanks=True), "a", "A", False),
        (KeyEquality(case=True, blanks=True), "a ", "A", True),
        (KeyEquality(untold="?"), "a", "A", False),
        (None, "a", "A", False),
    ],
)
def test_folded_texts_are_equal_where_the_source_has_them_equal(
    equality: KeyEquality | None, one: str, other: str, equal: bool
) -> None:
    sql = f"SELECT {folded('$1::VARCHAR', equality)} = {folded('$2::VARCHAR', equality)}"
    assert duckdb.execute(sql, [one, other]).fetchall() == [(equal,)]
