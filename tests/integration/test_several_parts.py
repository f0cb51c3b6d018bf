"""Every count is of all parts and all batches of a slice, wherever in them lies what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from include.etl import run as runner
from include.etl.errors import DataError, ValidationFailed
from include.etl.phases import extract
from include.etl.phases import plan as planning
from tests.integration.conftest import VISITS, Project
from tests.integration.test_publication import FIRST, INSERT, some_visits, visit
from tests.integration.test_quarantine import NOT_BAD, suite

ROWS, BATCH, GROUP, PART = 40, 2, 4, 8
PLACES = [[0], [0, 5, 13, 22, 39]]  # the first part alone; several in several parts, groups and batches
SHORT = f"extract: {{batch_rows: {BATCH}}}\n"


@pytest.fixture
def clinic(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """40 rows, which come in batches of 2, row groups of 4 and parts of 8."""
    monkeypatch.setattr(extract, "ROW_GROUP_ROWS", GROUP)
    monkeypatch.setattr(extract, "PART_ROWS", PART)
    project.configure(VISITS + SHORT)
    project.execute(INSERT, some_visits(ROWS))
    return project


def update(project: Project, change: str, places: Sequence[int]) -> None:
    project.execute(f"UPDATE visits SET {change} WHERE visit_id IN ({', '.join(map(str, places))})")


def extracted(project: Project, done: runner.Result) -> dict[str, Any]:
    (found,) = [phase for phase in done.publication.phases if phase["phase"] == "extract"]
    assert len(list((project.folder / "data").rglob("raw/**/part-*.parquet"))) == ROWS // PART
    return found


@pytest.mark.parametrize("places", PLACES)
def test_rows_without_cursor(clinic: Project, places: list[int]) -> None:
    update(clinic, "updated_at = NULL", places)
    done = clinic.run()
    found = extracted(clinic, done)
    assert (found["without_cursor"], found["rows"]) == (len(places), ROWS)
    assert found["bytes"] == sum(path.stat().st_size for path in (clinic.folder / "data").rglob("raw/**/*.parquet"))
    assert done.publication.rows.published == ROWS


@pytest.mark.parametrize("places", PLACES)
def test_rows_without_cursor_are_refused(clinic: Project, places: list[int]) -> None:
    clinic.configure((VISITS + SHORT).replace("lookback: 1h", "nulls: refuse"))
    update(clinic, "updated_at = NULL", places)
    with pytest.raises(DataError, match=rf"{len(places)} rows have no value in the cursor column 'updated_at'"):
        clinic.run()
    assert clinic.variables == {}


@pytest.mark.parametrize("places", PLACES)
def test_bad_rows(clinic: Project, places: list[int]) -> None:
    """Set aside, or the reason that nothing is published."""
    suite(clinic, NOT_BAD)
    update(clinic, "note = 'bad'", places)
    with pytest.raises(ValidationFailed, match=rf"{len(places)} values"):
        clinic.run()
    clinic.configure(VISITS + SHORT + "validation: {on_failure: quarantine, max_rejected: 100%}\n")
    done = clinic.run().publication
    assert done.validation["quarantined"] == len(places)
    assert [row[0] for row in clinic.rows()] == [number for number in range(ROWS) if number not in places]
    assert done.rows.removed == {"quarantined": len(places)}


@pytest.mark.parametrize("places", PLACES)
def test_older_versions(clinic: Project, places: list[int]) -> None:
    """Of each of these rows a later one comes, in another part; `merge` keeps the latest alone."""
    clinic.configure(VISITS + SHORT + "load: merge\n")
    clinic.execute(INSERT, [visit(number, FIRST + timedelta(days=9), note="new") for number in places])
    done = clinic.run().publication
    assert sum(done.rows.removed.values()) == len(places)
    assert dict(clinic.rows("visit_id, note")) == {
        number: "new" if number in places else "fine" for number in range(ROWS)
    }


@pytest.mark.parametrize("places", PLACES)
def test_rows_that_do_not_convert(clinic: Project, places: list[int]) -> None:
    clinic.configure(VISITS + SHORT + "transform: {types: {note: BIGINT}}\n")
    clinic.execute("UPDATE visits SET note = '1'")
    update(clinic, "note = 'one'", places)
    with pytest.raises(DataError, match=rf"column 'note': {len(places)} rows do not convert"):
        clinic.run()


def test_several_slices_of_several_parts(clinic: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice counts its own; the manifest and the raw files hold them all."""
    update(clinic, "updated_at = NULL", [1, 39])
    cuts = [{"column": "visit_id", "end": "20"}, {"column": "visit_id", "start": "20"}]
    made = [planning.slices.Bounds(**cut) for cut in cuts]
    monkeypatch.setattr(planning, "survey", lambda *_: made)
    done = clinic.run().publication
    found = [phase for phase in done.phases if phase["phase"] == "extract"]
    assert [(one["rows"], one["without_cursor"]) for one in found] == [(20, 1), (20, 1)]
    assert (done.rows.extracted, done.rows.published) == (ROWS, ROWS)
    assert done.completeness.checks[0].found["rows"] == ROWS
