"""What a key is to the source, and what follows: one that is not unique stops the run, and nothing has moved."""

from __future__ import annotations

import pytest

from include.etl.errors import DataError
from tests.integration.conftest import VISITS, Project

INSERT = "INSERT INTO visits VALUES (?, '2024-01-01', '1.00', ?, '2024-01-01 08:00:00')"
CURSOR = "cursor: {column: updated_at, lookback: 1h}\n"
FULL_ONLY = VISITS.replace(CURSOR, "").replace("incremental", "full")


@pytest.mark.parametrize("load", ["append", "merge"])
@pytest.mark.parametrize("config", [VISITS, FULL_ONLY], ids=["cursor", "no cursor"])
def test_a_key_that_is_not_unique_stops_the_run_and_nothing_moves(project: Project, config: str, load: str) -> None:
    project.configure(f"{config}load: {load}\n")
    project.execute(INSERT, [(number, "fine") for number in range(10)])
    assert project.run(mode="full").publication.rows.published == 10
    before, variables = project.files(), dict(project.variables)
    project.execute(INSERT, [(number % 10, f"note {number}") for number in range(990)])
    with pytest.raises(DataError, match=r"primary_key \(visit_id\).*10 keys have 1000 rows.*Add columns") as error:
        project.run(mode="full")
    assert "note 1" not in str(error.value)
    assert (project.files(), project.variables) == (before, variables)
    project.configure(f"{config.replace('[visit_id]', '[visit_id, note]')}load: {load}\n")
    assert project.run(mode="full").publication.rows.published == 1000


def test_copies_are_named_in_the_manifest(project: Project) -> None:
    project.execute(INSERT, [(1, "fine"), (1, "fine"), (2, "fine")])
    found = project.run().publication
    assert (found.rows.published, found.rows.removed) == (2, {"identical copy": 1})
    assert any("copies of another row in every column" in caveat for caveat in found.caveats)
    assert found.completeness.verified


TEXTS = VISITS.replace(", partition_by: visit_date", "")


@pytest.mark.parametrize(
    ("transform", "first", "second"),
    [
        ("{}", "A1", "A1 "),
        ("{types: {visit_id: INTEGER}}", "1", "01"),
        ("{types: {visit_id: DATE}}", "2024-01-01", "2024-1-1"),
    ],
    ids=["trim", "number", "date"],
)
@pytest.mark.parametrize("more", ["load: merge", "deletes: mark"])
def test_a_key_that_conversion_makes_another_rows_is_refused_in_a_later_run(
    project: Project, more: str, transform: str, first: str, second: str
) -> None:
    project.configure(f"{TEXTS}transform: {transform}\n{more}\n")
    project.execute("DROP TABLE visits")
    project.execute("CREATE TABLE visits (visit_id TEXT PRIMARY KEY, updated_at TIMESTAMP)")
    project.execute("INSERT INTO visits VALUES (?, '2024-01-01 08:00:00')", [(first,)])
    assert project.run().publication.rows.published == 1
    before, variables = project.files(), dict(project.variables)
    project.execute("INSERT INTO visits VALUES (?, datetime('now', '-10 seconds'))", [(second,)])
    with pytest.raises(DataError, match=r"1 rows have a key that .* publishes otherwise.*'visit_id' \(primary_key\)"):
        project.run()
    assert (project.files(), project.variables) == (before, variables)


def test_blanks_that_the_source_ignores_may_be_trimmed(project: Project) -> None:
    project.configure(f"{TEXTS}load: merge\n")
    project.execute("DROP TABLE visits")
    project.execute("CREATE TABLE visits (visit_id TEXT COLLATE RTRIM PRIMARY KEY, updated_at TIMESTAMP)")
    project.execute("INSERT INTO visits VALUES (?, '2024-01-01 08:00:00')", [("A1  ",)])
    assert project.run().publication.rows.published == 1


def test_keys_made_equal_are_no_versions(project: Project) -> None:
    """The cursor does not tell them apart: they are two keys."""
    project.configure(TEXTS)
    project.execute("DROP TABLE visits")
    project.execute("CREATE TABLE visits (visit_id TEXT, updated_at TIMESTAMP)")
    project.execute("INSERT INTO visits VALUES (?, ?)", [("A", "2024-01-01 08:00:00"), ("A ", "2024-01-01 09:00:00")])
    with pytest.raises(DataError, match="1 primary keys come twice after trimming"):
        project.run()


@pytest.mark.parametrize("load", ["append", "merge"])
@pytest.mark.parametrize("formats", ["parquet", "parquet, csv"])
def test_rows_with_a_null_in_the_key_are_told_apart_by_all_columns(project: Project, formats: str, load: str) -> None:
    """Read again by the lookback, or without a cursor value; as many equal rows stay as the source has."""
    config = VISITS.replace("[parquet]", f"[{formats}]")
    project.configure(f"{config}load: {load}\n")
    project.execute(NULL_KEY, [("a", None), ("b", "2024-01-01 08:00:00"), ("b", "2024-01-01 08:00:00")])
    project.execute(INSERT.replace("'2024-01-01 08:00:00'", "datetime('now', '-1 minutes')"), [(1, "whole")])
    project.run()
    project.execute(NULL_KEY, [("c", None), ("a", None)])
    expected = ["a", "a", "b", "b", "c", "whole"]
    for _ in range(2):
        project.run()
        assert sorted(note for (note,) in project.rows("note")) == sorted(expected)
    at = "2024-01-01 08:00:00"
    project.execute(NULL_KEY, [("d", at)])
    project.run(start="2024-01-01", end="2024-01-02")
    assert sorted(note for (note,) in project.rows("note")) == sorted([*expected, "d"])


NULL_KEY = "INSERT INTO visits VALUES (NULL, '2024-01-01', '1.00', ?, ?)"
