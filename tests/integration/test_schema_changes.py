"""The table of a source is altered between runs: what is published stays readable, or nothing is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from include.etl.errors import SchemaChanged
from include.etl.handover import Slice, Validated
from include.etl.phases.extract import extract
from include.etl.phases.load import load
from include.etl.phases.plan import plan
from include.etl.phases.request import Parameters, Trigger
from include.etl.phases.transform import transform
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage
from include.etl.transforms import TRANSFORMS
from tests.integration.conftest import VISITS, Project

DAY = {"start": "2024-01-01", "end": "2024-01-02T00:00:00Z"}
NEXT_DAY = {"start": "2024-01-02T00:00:00Z", "end": "2024-01-03T00:00:00Z"}


def table(project: Project, columns: str, values: str) -> None:
    """Make the table anew with these columns beside key, partition and cursor, and one row for each day."""
    project.execute("DROP TABLE visits")
    project.execute(f"CREATE TABLE visits (visit_id BIGINT, visit_date DATE, updated_at TIMESTAMP, {columns})")
    for number in (1, 2):
        project.execute(
            f"INSERT INTO visits VALUES ({number}, '2024-01-0{number}', '2024-01-0{number} 08:00', {values})"
        )


@pytest.fixture
def altered(project: Project) -> Project:
    table(project, "fee DECIMAL(10,2), note TEXT", "'1.50', 'x'")
    project.run(**DAY)
    return project


def test_wider_new_and_missing_columns_are_published_told_and_readable_together(
    altered: Project, caplog: pytest.LogCaptureFixture
) -> None:
    table(altered, "fee DECIMAL(14,4), remark TEXT", "'2.2525', 'y'")
    result = altered.run(**NEXT_DAY)
    lines = [
        "column 'fee' was decimal128(10, 2), is decimal128(14, 4)",
        "column 'note' is missing (it was string); perhaps it is called 'remark' now: same place, same type",
        "column 'remark' is new (string)",
    ]
    assert all(f"source visits: {line}" in caplog.text for line in lines)
    facts = {phase["phase"]: phase.get("schema_changes") for phase in summary(altered, result.publication.run_id)}
    assert facts["extract"] == facts["load"] == lines
    assert [change["column"] for change in result.manifest["schema_changes"]] == ["fee", "note", "remark"]
    assert [(str(fee), note, remark) for fee, note, remark in altered.rows("fee, note, remark")] == [
        ("1.5000", "x", None),
        ("2.2525", None, "y"),
    ]
    paths = list(altered.published.rglob("*.parquet"))
    unified = pa.unify_schemas([pq.read_schema(path) for path in paths], promote_options="permissive")
    both = ds.dataset(paths, schema=unified).to_table()
    assert [str(value) for value in sorted(both.column("fee").to_pylist())] == ["1.5000", "2.2525"]
    assert altered.run(**NEXT_DAY).manifest["schema_changes"] == []


def summary(project: Project, run_id: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in (project.folder / "data/runs/visits").glob("*/summary.json")]
    phases: list[dict[str, Any]] = next(one["phases"] for one in found if one["run_id"] == run_id)
    return phases


@pytest.mark.parametrize("policy", ["warn", "evolve"])
@pytest.mark.parametrize("mode", ["append", "merge"])
def test_type_that_does_not_go_with_the_old_one_is_refused_until_a_full_run_evolves(
    altered: Project, policy: str, mode: str
) -> None:
    altered.configure(VISITS + f"schema_changes: {policy}\nload: {mode}\n")
    before = altered.files()
    table(altered, "fee TEXT, note TEXT", "'one', 'x'")
    message = r"column 'fee' was decimal128\(10, 2\), is string: not readable together.*schema_changes: evolve"
    with pytest.raises(SchemaChanged, match=message):
        altered.run(**NEXT_DAY)
    if policy == "warn":
        with pytest.raises(SchemaChanged, match=message):
            altered.run(mode="full")
    assert altered.files() == before
    altered.configure(VISITS + f"schema_changes: evolve\nload: {mode}\n")
    altered.run(mode="full")
    assert altered.rows("visit_id, fee") == [(1, "one"), (2, "one")]


def test_refused_before_a_row_is_read(altered: Project) -> None:
    table(altered, "fee TEXT, note TEXT", "'one', 'x'")
    run = Run(load_source("visits"), "run", Storage.from_environment())
    planned = plan(run, Parameters(**NEXT_DAY), Trigger(datetime.now(UTC)), altered.memory)
    with pytest.raises(SchemaChanged):
        extract(run, planned, Slice())
    assert not list((altered.folder / "data" / "raw" / "visits" / run.key).rglob("*.parquet"))


def test_fail_publishes_no_change_at_all(altered: Project) -> None:
    altered.configure(VISITS + "schema_changes: fail\n")
    altered.run(**NEXT_DAY)
    before = altered.files()
    altered.execute("ALTER TABLE visits ADD COLUMN remark TEXT")
    with pytest.raises(
        SchemaChanged, match=r"column 'remark' is new \(string\)\. Nothing was published; allowed: schema_"
    ):
        altered.run(**NEXT_DAY)
    assert altered.files() == before


def test_declared_type_keeps_the_published_one(altered: Project) -> None:
    altered.configure(VISITS + "transform: {types: {fee: 'DECIMAL(10,2)'}}\n")
    table(altered, "fee TEXT, note TEXT", "'2.50', 'x'")
    assert altered.run(**NEXT_DAY).manifest["schema_changes"] == []
    assert [str(fee) for (fee,) in altered.rows("fee")] == ["1.50", "2.50"]


def test_own_transformation_that_changes_a_type_is_refused_too(
    altered: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRANSFORMS, "texts", "texts.sql")
    texts = "(SELECT * REPLACE (fee::VARCHAR AS fee) FROM {})"
    monkeypatch.setattr("include.etl.transforms._apply_sql", lambda connection, name, path, rows: texts.format(rows))
    altered.configure(VISITS + "transform: {steps: [texts]}\n")
    before = altered.files()
    with pytest.raises(SchemaChanged, match="column 'fee' was decimal128"):
        altered.run(**NEXT_DAY)
    assert altered.files() == before


def test_other_partition_column_needs_a_full_run(altered: Project) -> None:
    text = VISITS.replace(", partition_by: visit_date", "")
    altered.configure(text)
    with pytest.raises(SchemaChanged, match=r"output.partition_by was visit_date, is nothing"):
        altered.run(**NEXT_DAY)
    altered.configure(text + "schema_changes: evolve\n")
    altered.run(mode="full")
    assert [path.parent for path in altered.run(mode="full").paths] == [altered.published]


def test_full_run_is_refused_while_something_stays_that_does_not_go_with_it(altered: Project) -> None:
    """Another run has published the old type after the full run began to read the new one."""
    altered.configure(VISITS + "schema_changes: evolve\n")
    table(altered, "fee TEXT, note TEXT", "'one', 'x'")
    run = Run(load_source("visits"), "full", Storage.from_environment())
    planned = plan(run, Parameters(mode="full"), Trigger(datetime.now(UTC)), altered.memory)
    read = [extract(run, planned, part) for part in planned.slices]
    table(altered, "fee DECIMAL(10,2), note TEXT", "'1.50', 'x'")
    altered.run(**NEXT_DAY)
    interim = transform(run, planned, read)
    with pytest.raises(SchemaChanged, match="column 'fee' was decimal128"):
        load(run, planned, read, Validated(verdict="no suite"), interim, altered.memory)
    assert len(altered.rows()) == 2


def test_slices_with_different_columns_are_refused(altered: Project) -> None:
    run = Run(load_source("visits"), "run", Storage.from_environment())
    planned = plan(run, Parameters(**NEXT_DAY), Trigger(datetime.now(UTC)), altered.memory)
    read = [extract(run, planned, Slice(index=0))]
    altered.execute("ALTER TABLE visits ADD COLUMN remark TEXT")
    (altered.folder / "data/runs/visits" / run.key / "slices.json").write_text("[{}, {}]")
    read.append(extract(run, planned, Slice(index=1)))
    planned = planned.model_copy(update={"slices": [Slice(index=0), Slice(index=1)]})
    with pytest.raises(SchemaChanged, match="its slices do not have the same ones"):
        transform(run, planned, read)


def test_key_that_became_wider_is_recognised_within_the_lookback(project: Project) -> None:
    """Publications of both types stand in the time that is read again."""
    project.configure(VISITS.replace("lookback: 1h", "lookback: 2d"))
    now = datetime.now(UTC)
    for number, (kind, key) in enumerate([("INTEGER", 1), ("BIGINT", 2**40), ("BIGINT", 2**40 + 1), ("BIGINT", 3)]):
        at = (now - timedelta(hours=9 - number)).strftime("%Y-%m-%d %H:%M:%S")
        project.execute(f"CREATE TABLE IF NOT EXISTS newer (visit_id {kind}, visit_date DATE, updated_at TIMESTAMP)")
        if kind == "BIGINT" and number == 1:
            project.execute("ALTER TABLE newer RENAME TO older")
            project.execute("CREATE TABLE newer (visit_id BIGINT, visit_date DATE, updated_at TIMESTAMP)")
            project.execute("INSERT INTO newer SELECT * FROM older")
        project.execute(f"INSERT INTO newer VALUES ({key}, '2024-01-01', '{at}')")
        project.configure(VISITS.replace("lookback: 1h", "lookback: 2d").replace("table: visits", "table: newer"))
        project.run()
    assert [row[0] for row in project.rows("visit_id")] == [1, 3, 2**40, 2**40 + 1]


def test_rewritten_file_keeps_its_own_columns(altered: Project) -> None:
    altered.configure(VISITS + "load: merge\n")
    altered.execute("INSERT INTO visits VALUES (9, '2024-01-01', '2024-01-01 09:00', '1.50', 'x')")
    first = altered.run(**DAY)
    old = pq.read_schema(first.paths[0])
    altered.execute("ALTER TABLE visits ADD COLUMN remark TEXT DEFAULT 'new'")
    altered.execute("UPDATE visits SET updated_at = '2024-01-02 09:00' WHERE visit_id = 9")
    altered.run(**NEXT_DAY)
    assert pq.read_schema(first.paths[0]) == old
    assert altered.rows("visit_id, remark") == [(1, None), (2, "new"), (9, "new")]


def test_deleted_rows_get_the_new_type_only_if_it_is_wider(project: Project) -> None:
    text = VISITS + "deletes: mark\nmax_deletes: 100%\nschema_changes: evolve\n"
    project.configure(text)
    table(project, "fee DECIMAL(10,2), note TEXT", "'1.50', 'x'")
    project.run()
    table(project, "fee DECIMAL(12,2), remark TEXT", "'1.50', 'x'")
    project.execute("DELETE FROM visits WHERE visit_id = 1")
    project.run(mode="full")
    assert [(n, str(f), gone) for n, f, gone in project.rows("visit_id, fee, _deleted_at IS NOT NULL")] == [
        (1, "1.50", True),
        (2, "1.50", False),
    ]
    table(project, "fee TEXT, remark TEXT", "'one', 'x'")
    project.execute("DELETE FROM visits WHERE visit_id = 1")
    with pytest.raises(SchemaChanged, match=r"column 'fee' was decimal128\(12, 2\).*deletes: ignore"):
        project.run(mode="full")
    project.configure(VISITS + "schema_changes: evolve\n")
    project.run(mode="full")
    assert project.rows("visit_id, fee") == [(2, "one")]
