"""What a plan makes of the database's catalogue: a warning and slices, and never the end of a run."""

from __future__ import annotations

import pytest

from include.etl.engines.sqlite import SqliteSession
from include.etl.errors import ConfigurationError
from tests.integration.conftest import VISITS, Project

INSERT = "INSERT INTO visits VALUES (1, '2024-01-01', '12.30', 'fine', '2024-01-01 08:00:00')"
BY_CURSOR = "SELECT * FROM visits WHERE {{ window('updated_at') }}"


@pytest.mark.parametrize(
    ("sql", "warned"),
    [(BY_CURSOR, True), (f"{BY_CURSOR} AND NOT EXISTS (SELECT 1 FROM other)", False)],
    ids=["one table", "two tables"],
)
def test_a_query_of_one_table_is_warned_of_too(
    project: Project, caplog: pytest.LogCaptureFixture, sql: str, warned: bool
) -> None:
    project.execute(INSERT)
    project.execute("CREATE TABLE other (a INTEGER)")
    (project.folder / "sql").mkdir()
    (project.folder / "sql" / "visits.sql").write_text(sql)
    project.configure(VISITS.replace("table: visits", "query: visits.sql"))
    project.run()
    assert ("column updated_at leads no index of visits" in caplog.text) == warned


def test_a_catalogue_that_cannot_be_asked_costs_slices_and_no_run(
    project: Project, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ConfigurationError("no such view")

    monkeypatch.setattr(SqliteSession, "statistics", refuse)
    project.execute(INSERT)
    project.configure(VISITS + "split: {column: visit_id, rows: 1000}\n")
    assert project.run().manifest["rows"]["published"] == 1
    assert "the catalogue cannot be asked about visits: no such view" in caplog.text
