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
