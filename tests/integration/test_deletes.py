"""`deletes: mark`: rows that left the source stay, marked, and nothing is marked by mistake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.etl.errors import ConfigurationError, DataError, ValidationFailed
from include.etl.handover import Validated
from include.etl.phases.extract import extract
from include.etl.phases.load import load
from include.etl.phases.plan import plan
from include.etl.phases.request import Parameters, Trigger
from include.etl.phases.transform import transform
from include.etl.phases.validate import check
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage
from include.etl.transforms import TRANSFORMS
from tests.integration.conftest import VISITS, Project

MARK = VISITS + "deletes: mark\nmax_deletes: 50%\n"
INSERT = "INSERT INTO visits VALUES (?, '2024-01-01', '1.00', 'fine', '2024-01-01 08:00:00')"
DAY = {"start": "2024-01-01", "end": "2024-01-02T00:00:00Z"}


@pytest.fixture(params=["append", "merge"])
def marking(project: Project, request: pytest.FixtureRequest) -> Project:
    project.configure(f"{MARK}load: {request.param}\n")
    project.execute(INSERT, [(number,) for number in range(10)])
    return project


def marked(project: Project) -> dict[int, datetime]:
    return {key: when for key, when in project.rows("visit_id, _deleted_at") if when is not None}


def test_key_that_left_is_marked_once_and_for_all_until_it_comes_back(marking: Project) -> None:
    marking.run()
    assert marked(marking) == {}
    marking.execute("DELETE FROM visits WHERE visit_id IN (3, 4)")
    before = datetime.now(UTC)
    result = marking.run(mode="full")
    first = marked(marking)
    assert first.keys() == {3, 4}
    assert all(before - timedelta(seconds=1) < when <= datetime.now(UTC) for when in first.values())
    assert (result.manifest["rows"]["published"], result.manifest["deleted"]) == (8, 2)
    assert result.publication.files[0].deleted == 2
    marking.run(mode="full")
    assert marked(marking) == first
    marking.execute(INSERT, [(3,)])  # with the old cursor, as from a backup
    marking.run(**DAY)
    assert marked(marking).keys() == {4}
    assert [row[0] for row in marking.rows()] == list(range(10))
    marking.execute("DELETE FROM visits WHERE visit_id = 3")
    marking.run(mode="full")
    assert marked(marking)[3] > first[3]
    assert marked(marking)[4] == first[4]


def test_key_that_comes_back_in_a_later_window_replaces_its_mark(marking: Project) -> None:
    marking.run()
    marking.execute("DELETE FROM visits WHERE visit_id = 3")
    marking.run(mode="full")
    marking.execute("INSERT INTO visits VALUES (3, '2024-01-05', '1.00', 'back', '2024-01-05 08:00:00')")
    marking.run(start="2024-01-05", end="2024-01-06T00:00:00Z")
    assert marked(marking) == {}
    assert [row[0] for row in marking.rows()] == list(range(10))


@pytest.mark.parametrize(("gone", "refused"), [(5, False), (6, True), (10, True)])
def test_more_than_max_deletes_is_refused(marking: Project, gone: int, refused: bool) -> None:
    marking.run()
    before = marking.files()
    marking.execute(f"DELETE FROM visits WHERE visit_id < {gone}")
    if not refused:
        marking.run(mode="full")
        assert len(marked(marking)) == gone
        return
    with pytest.raises(
        DataError, match=rf"{gone} of 10 published keys .* allowed: max_deletes: 50%\. Nothing was publ"
    ):
        marking.run(mode="full")
    assert marking.files() == before


def test_rows_that_another_run_read_later_are_not_marked(marking: Project) -> None:
    marking.run()
    run = Run(load_source("visits"), "full", Storage.from_environment())
    planned = plan(run, Parameters(mode="full"), Trigger(datetime.now(UTC)), marking.memory)
    read = [extract(run, planned, part) for part in planned.slices]
    marking.execute(INSERT, [(77,)])
    marking.run(**DAY)
    interim = transform(run, planned, read)
    load(run, planned, read, Validated(verdict="no suite"), interim, marking.memory)
    assert marked(marking) == {}
    assert [row[0] for row in marking.rows()] == [*range(10), 77]


def test_row_read_before_it_was_found_deleted_stays_deleted(marking: Project) -> None:
    """An incremental run reads a row, a full run after it finds it deleted, and is published first."""
    marking.run()
    run = Run(load_source("visits"), "slow", Storage.from_environment())
    planned = plan(run, Parameters(**DAY), Trigger(datetime.now(UTC)), marking.memory)
    read = [extract(run, planned, part) for part in planned.slices]
    marking.execute("DELETE FROM visits WHERE visit_id = 3")
    marking.run(mode="full")
    interim = transform(run, planned, read)
    load(run, planned, read, Validated(verdict="no suite"), interim, marking.memory)
    assert marked(marking).keys() == {3}
    assert [row[0] for row in marking.rows()] == list(range(10))


def test_row_that_a_transformation_leaves_out_is_not_marked(marking: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    marking.run()
    monkeypatch.setitem(TRANSFORMS, "few", "few.sql")
    few = "(SELECT * FROM {} WHERE visit_id > 2)"
    monkeypatch.setattr("include.etl.transforms._apply_sql", lambda connection, name, path, rows: few.format(rows))
    text = (marking.folder / "sources" / "visits.yaml").read_text()
    marking.configure(text + "transform: {steps: [few]}\n")
    marking.execute("DELETE FROM visits WHERE visit_id = 9")
    marking.run(mode="full")
    assert marked(marking).keys() == {9}
    assert [row[0] for row in marking.rows()] == list(range(3, 10))


def test_column_of_marks_is_there_only_with_mark(project: Project) -> None:
    project.execute(INSERT, [(1,), (2,)])
    assert "_deleted_at" not in project.run().to_arrow().column_names
    project.configure(MARK)
    project.execute("DELETE FROM visits WHERE visit_id = 2")
    table = project.run(mode="full").to_arrow()
    assert str(table.schema.field("_deleted_at").type) == "timestamp[us, tz=UTC]"
    assert marked(project).keys() == {2}
    project.configure()
    assert "_deleted_at" not in project.run(mode="full").to_arrow().column_names
    assert [row[0] for row in project.rows()] == [1]


def test_source_column_of_that_name_is_refused(project: Project) -> None:
    project.execute("ALTER TABLE visits ADD COLUMN _deleted_at TIMESTAMP")
    project.configure(MARK + "transform: {names: unchanged}\n")
    with pytest.raises(ConfigurationError, match="would be published as '_deleted_at'"):
        project.run()


def test_reference_to_a_marked_row_leads_nowhere(project: Project) -> None:
    project.configure(MARK)
    project.execute(INSERT, [(number,) for number in range(10)])
    project.run()
    project.execute("DELETE FROM visits WHERE visit_id = 3")
    project.run(mode="full")
    text = VISITS.replace("source: visits", "source: other")
    project.configure(text + "validation: {references: {known: {source: visits}}}\n", "other")
    (project.folder / "expectations").mkdir()
    (project.folder / "expectations" / "other.json").write_text(SUITE)
    run = Run(load_source("other"), "run", Storage.from_environment())
    planned = plan(run, Parameters(), Trigger(datetime.now(UTC)), project.memory)
    assert check(run, planned, [extract(run, planned, part) for part in planned.slices]).verdict == "passed"
    project.execute(INSERT, [(3,)])
    with pytest.raises(ValidationFailed, match="visit_id"):
        check(run, planned, [extract(run, planned, part) for part in planned.slices])


SUITE = """{"name": "other", "expectations": [{"type": "expect_column_values_to_exist_in_reference",
"kwargs": {"column": "visit_id", "reference": "known", "reference_column": "visit_id"}, "severity": "critical"}]}"""
