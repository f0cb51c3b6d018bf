"""Messages name what is wrong, and repeat no value of a row."""

from __future__ import annotations

import pytest

from include.etl.errors import ConfigurationError, DataError, ExtractionError
from tests.contract.engines.lab import Lab, everything


def test_neither_rows_nor_parameters_are_in_messages(server_lab: Lab) -> None:
    text_as_number = "cast(x as integer)"
    number = text_as_number if server_lab.database != "mysql" else "9223372036854775807 + (x is not null)"
    bad = f"select {number} as n from (select 'patient 4711' as x) s"
    with pytest.raises(DataError) as raised:
        server_lab.read(bad)
    assert "4711" not in everything(raised.value)
    with pytest.raises(ConfigurationError) as refused:
        server_lab.read("select 1 as a from :p", p="patient 4711")
    assert "4711" not in everything(refused.value)
    assert b"patient 4711".hex() not in everything(refused.value)


def test_what_a_function_of_the_database_says_is_not_repeated(server_lab: Lab) -> None:
    """Its message can be made of row data, under any error code."""
    if server_lab.kind == "postgres":
        server_lab.execute(
            "create or replace function checked(nric text) returns text language plpgsql as $$ begin "
            "raise exception 'nric % is not valid', nric using errcode = '42501'; end $$"
        )
        ask = "select checked('S1234567D') as x"
        other = "select current_setting('S1234567D') as x"
    elif server_lab.kind.startswith("mysql"):
        server_lab.execute("drop function if exists checked")
        server_lab.execute(
            "create function checked(nric text) returns text deterministic begin declare said text; "
            "set said = concat('nric ', nric); "
            "signal sqlstate '42S02' set message_text = said, mysql_errno = 1146; return nric; end"
        )
        ask = "select checked('S1234567D') as x"
        other = "select checked(nric) as x from (select 'S1234567D' as nric union select 'S7654321D') as patients"
    else:
        pytest.skip(f"NOT TESTED: functions that raise, on {server_lab.kind}")
    for sql in (ask, other):
        with pytest.raises(ExtractionError) as raised:
            server_lab.read(sql)
        assert "S1234567D" not in str(raised.value)
        assert raised.value.__cause__ is None


@pytest.mark.parametrize("lab", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
@pytest.mark.parametrize(
    "column",
    [
        "nric::regclass", "nric::regtype", "nric::regrole", "nric::regnamespace", "to_tsvector(nric::regconfig, 'a')",
        "nric::jsonpath", "has_table_privilege(nric, 'select')", "has_schema_privilege(nric, 'usage')",
        "has_table_privilege('pg_class', nric)", "pg_get_serial_sequence(nric, 'a')", "currval(nric)",
    ],
)  # fmt: skip
def test_a_value_that_is_taken_for_a_name_is_not_repeated(lab: Lab, column: str) -> None:
    """A missing table is named while the query is parsed; while it runs, the name is a value of a row."""
    lab.execute("drop table if exists patients")
    lab.execute("create table patients (nric text)")
    lab.execute("insert into patients values ('S1234567D')")
    with pytest.raises(ExtractionError, match="the server reports") as raised:
        lab.read(f"select {column} as x from patients")
    assert "s1234567d" not in everything(raised.value).lower()
