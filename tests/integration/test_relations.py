"""What a source's names stood for when it was read is recorded, also where plan has no reason to ask."""

from __future__ import annotations

from itertools import count

import pytest

from include.etl.engines.base import Origins
from include.etl.engines.sqlite import SqliteSession
from include.etl.errors import ConfigurationError
from tests.integration.conftest import VISITS, Project

WITHOUT_CURSOR = VISITS.replace("cursor: {column: updated_at, lookback: 1h}\n", "").replace("incremental:", "full:")


@pytest.fixture
def beds(project: Project) -> Project:
    project.configure(WITHOUT_CURSOR)
    rows = [(number, "2024-01-01", 1, "", "2024-01-01 08:00:00") for number in range(4_000)]
    project.execute("INSERT INTO visits VALUES (?, ?, ?, ?, ?)", rows)
    return project


def test_a_source_without_cursor_has_its_relations_in_the_manifest(beds: Project) -> None:
    assert beds.run().manifest["bound"]["relations"] == ["main.visits"]


def test_slices_of_different_relations_publish_nothing(beds: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    beds.execute("CREATE UNIQUE INDEX by_id ON visits (visit_id)")
    beds.configure(WITHOUT_CURSOR + "split: {column: visit_id, rows: 1000}\n")
    asked = count()
    monkeypatch.setattr(SqliteSession, "origins", lambda *_: Origins(relations=[f"schema_{next(asked)}.visits"]))
    with pytest.raises(ConfigurationError, match=r"read from different relations: schema_0\.visits and schema_1"):
        beds.run()
    assert beds.files() == {}
