"""Every link from the source to the published files is checked: any fault is found, and nothing is published."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from include.etl import run as runner
from include.etl.completeness import extraction
from include.etl.completeness.totals import Totals
from include.etl.engines.base import Query, Stream
from include.etl.engines.sqlite import SqliteSession
from include.etl.errors import ConfigurationError, DataError, StorageError
from include.etl.outputs.csv import CsvOutput
from include.etl.outputs.excel import ExcelOutput
from include.etl.outputs.parquet import ParquetOutput
from include.etl.phases import transform as transform_phase
from include.etl.publication.added import AddedRows
from include.etl.publication.merge import Merge
from include.etl.publication.overlap import Overlap
from include.etl.publication.rows import PublishedRows
from tests.integration.conftest import VISITS, Project
from tests.integration.test_publication import FIRST, INSERT, some_visits, visit

COLUMNS = "verify: {columns: [visit_id, fee, note, visit_date, updated_at]}\n"
ALL = VISITS.replace("[parquet]", "[parquet, csv, excel]") + COLUMNS
Batches = Iterator[pa.RecordBatch]


@pytest.fixture
def clinic(project: Project) -> Project:
    """50 rows in batches of 10, and something published before, which must stay."""
    project.configure(ALL + "extract: {batch_rows: 10}\n")
    project.execute(INSERT, [visit(999, FIRST - timedelta(days=5))])
    project.run(start="2023-12-01", end="2023-12-31")
    project.execute(INSERT, some_visits(50))
    return project


def refused(project: Project, error: type[Exception], message: str, **parameters: str) -> str:
    """The run fails so, and neither what is published nor the checkpoint has changed."""
    before, checkpoint = project.files(), dict(project.variables)
    with pytest.raises(error, match=message) as raised:
        project.run(**parameters)
    assert project.files() == before
    assert project.variables == checkpoint
    assert not list((project.folder / "data" / "staging").glob("*/*"))
    assert "12.3" not in str(raised.value)
    return str(raised.value)


def test_every_link_is_recorded(clinic: Project) -> None:
    clinic.execute(INSERT, [(7, "2024-01-01", None, None, "2024-01-09 00:00:00")] * 2)  # a version, and its copy
    found = clinic.run().publication.completeness
    assert found.verified
    assert found.reason == ""
    assert {check.link: (check.expected["rows"], check.found["rows"]) for check in found.checks} == {
        "source = raw parts": (53, 53),
        "raw parts - removed = published rows": (52, 52),
        "published rows = parquet files": (52, 52),
        "published rows = csv files": (52, 52),
        "published rows = excel files": (52, 52),
    }
    assert all(check.expected == check.found for check in found.checks)
    assert [found.checks[0].found["columns"][name]["values"] for name in ("visit_id", "fee")] == [53, 51]
    assert found.checks[2].found["columns"].keys() == {"visit_id", "fee", "note", "visit_date", "updated_at"}


def test_partition_without_value_and_empty_window(clinic: Project) -> None:
    clinic.execute(INSERT, [(1000, None, None, None, "2024-01-09 00:00:00")])
    assert clinic.run().publication.completeness.verified
    nothing = clinic.run(start="2022-01-01", end="2022-01-02").publication.completeness
    assert nothing.verified
    assert nothing.checks[-1].found["rows"] == 0


@pytest.mark.parametrize(
    ("broken", "numbers"),
    [(lambda b: b[:2] + b[3:], "51 and 41"), (lambda b: b[:3] + b[2:], "51 and 61"), (lambda b: b[:-1], "51 and 50")],
    ids=["drops a batch", "repeats a batch", "ends early"],
)
def test_reader_at_fault(
    clinic: Project, monkeypatch: pytest.MonkeyPatch, broken: Callable[[Any], Any], numbers: str
) -> None:
    stream = SqliteSession.stream

    def faulty(self: SqliteSession, query: Query) -> Stream:
        schema, batches = stream(self, query)
        return Stream(schema, iter(broken(list(batches))))

    monkeypatch.setattr(SqliteSession, "stream", faulty)
    refused(clinic, DataError, rf"source and raw parts\): rows: {numbers}.*nothing was published")


def test_reader_that_changes_a_value(clinic: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SqliteSession.stream

    def faulty(self: SqliteSession, query: Query) -> Stream:
        schema, batches = stream(self, query)
        return Stream(schema, (_changed(batch, "note", "FINE") for batch in batches))

    monkeypatch.setattr(SqliteSession, "stream", faulty)
    refused(clinic, DataError, r"column 'note': checksum \w+ and \w+; nothing was published")


def _changed(batch: pa.RecordBatch, column: str, value: str) -> pa.RecordBatch:
    position = batch.schema.get_field_index(column)
    values = [value, *batch.column(position).to_pylist()[1:]]
    return batch.set_column(position, batch.schema.field(position), pa.array(values, pa.string()))


def truncate(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-100])


def shorten(part: Path) -> None:
    table = pq.read_table(part)
    pq.write_table(table.slice(1), part)


def alter(part: Path) -> None:
    batch = pq.read_table(part).combine_chunks().to_batches()[0]
    pq.write_table(pa.Table.from_batches([_changed(batch, "note", "other")]), part)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Path.unlink, "part-00000.parquet"),
        (truncate, "part-00000.parquet"),
        (shorten, "raw parts of run .* have changed.*: rows: 51 and 50"),
        (alter, "raw parts of run .* have changed.*: column 'note': checksum"),
    ],
)
def test_raw_part_damaged_between_phases(
    clinic: Project, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Path], None], message: str
) -> None:
    check = runner.check

    def damage(run: Any, plan: Any, extracted: Any) -> Any:
        fault(run.storage.absolute(extracted[0].parts[0]))
        return check(run, plan, extracted)

    monkeypatch.setattr(runner, "check", damage)
    refused(clinic, StorageError, message)


def test_transform_that_loses_a_row(clinic: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic.execute(INSERT, [visit(7, FIRST + timedelta(days=3)), visit(8, FIRST + timedelta(days=3))])
    keep = transform_phase._without_duplicates
    lossy = lambda *given: f"(SELECT * FROM {keep(*given)} LIMIT 50)"  # noqa: E731
    monkeypatch.setattr(transform_phase, "_without_duplicates", lossy)
    refused(clinic, DataError, r"raw parts - older versions = rows that stay\): rows: 53 and 50")


@pytest.mark.parametrize("honest", [True, False], ids=["counts what it wrote", "counts what it got"])
@pytest.mark.parametrize("output", [ParquetOutput, CsvOutput, ExcelOutput])
def test_output_that_drops_a_row(
    clinic: Project, monkeypatch: pytest.MonkeyPatch, output: type[Any], honest: bool
) -> None:
    write = output.write

    def lossy(self: Any, reader: pa.RecordBatchReader, path: Path) -> int:
        table = reader.read_all()
        rows = write(self, table.slice(1).to_reader(), path)
        return rows if honest else table.num_rows

    monkeypatch.setattr(output, "write", lossy)
    refused(clinic, StorageError, r"rows: 51 and 46" if honest else r"11 rows were written, 10 read back")


@pytest.mark.parametrize("output", [ParquetOutput, CsvOutput, ExcelOutput])
def test_output_that_changes_a_value(clinic: Project, monkeypatch: pytest.MonkeyPatch, output: type[Any]) -> None:
    write = output.write

    def lossy(self: Any, reader: pa.RecordBatchReader, path: Path) -> int:
        schema = reader.schema
        changed = pa.RecordBatchReader.from_batches(schema, (_changed(batch, "note", "x") for batch in reader))
        return write(self, changed, path)

    monkeypatch.setattr(output, "write", lossy)
    refused(clinic, StorageError, r"rows were lost or changed on the way \(published rows = .*column 'note': checksum")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        # A row that is gone from both sides would be missed; so the link between publications looks first.
        (lambda table: table.slice(1), "1 rows would vanish from visit_date="),
        # One that comes twice vanishes nowhere: only what is read back tells.
        (lambda table: pa.concat_tables([table, table.slice(0, 1)]), r"file .*: \d rows were written, \d read back"),
    ],
    ids=["loses a row", "repeats a row"],
)
@pytest.mark.parametrize("output", [ParquetOutput, CsvOutput, ExcelOutput])
def test_rewritten_file_of_another_publication_is_read_back(
    clinic: Project, monkeypatch: pytest.MonkeyPatch, output: type[Any], broken: Callable[[Any], Any], message: str
) -> None:
    clinic.run()
    before, write = clinic.files(), output.write

    def lossy(self: Any, reader: pa.RecordBatchReader, path: Path) -> int:
        table = reader.read_all()
        write(self, (broken(table) if "rewritten" in path.parts else table).to_reader(), path)
        return int(table.num_rows)

    monkeypatch.setattr(output, "write", lossy)
    with pytest.raises(StorageError, match=message):
        clinic.run(start="2024-01-01", end="2024-01-01T20:00:00Z")
    assert clinic.files() == before


def test_counting_can_be_switched_off(clinic: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic.configure(VISITS + "verify: {count: false}\n")
    monkeypatch.setattr(SqliteSession, "single_row", None)
    found = clinic.run().publication.completeness
    assert not found.verified
    assert found.reason == "verify.count is false: the source was not asked"
    assert "source = raw parts" not in [check.link for check in found.checks]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("verify: {columns: [none]}", "verify.columns: 'none': it is not in the result; allowed:.*visit_id"),
        ("verify: {columns: [fee], count: false}", "`columns` needs `count`"),
    ],
)
def test_wrong_configuration_is_refused_before_reading(project: Project, asked: str, message: str) -> None:
    project.configure(VISITS + asked + "\n")
    with pytest.raises(ConfigurationError, match=message):
        project.run()
    assert not list((project.folder / "data").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("counts", "verified"),
    [((53, 51), True), ((53, 52), False), ((53, 53), None), ((51,), True)],
    ids=["changed back", "still changing", "stays different", "equal at once"],
)
def test_source_without_one_state(
    clinic: Project, monkeypatch: pytest.MonkeyPatch, counts: tuple[int, ...], verified: bool | None
) -> None:
    """SQL Server without snapshots: a difference may be a change made meanwhile, so the source is asked again."""
    clinic.configure(VISITS)
    answers = iter(counts)
    monkeypatch.setattr(SqliteSession, "consistency", "none")
    monkeypatch.setattr(extraction, "of_source", lambda *_: Totals(rows=next(answers)))
    if verified is None:
        refused(clinic, DataError, "rows: 53 and 51")
        return
    found = clinic.run().publication.completeness
    assert found.verified is verified
    assert ("rows were changing" in found.reason) is not verified


FIRST_DAYS, LAST_DAYS = {"start": "2024-01-01", "end": "2024-01-03"}, {"start": "2024-01-02", "end": "2024-01-04"}
Fault = Callable[[pytest.MonkeyPatch], None]


def leave_out(strategy: type[Any]) -> Fault:
    """A new row is taken for one that is published already."""

    def lossy(self: Any, result: Path, settle: Any = strategy.settle) -> Path:
        pq.write_table(pq.read_table(settle(self, result)).slice(1), result)
        return result

    return lambda monkeypatch: monkeypatch.setattr(strategy, "settle", lossy)


def leave_out_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row at the very start of the last days is taken for one of the days before, which hold it, too."""

    def lossy(self: Any, result: Path, settle: Any = Overlap.settle) -> Path:
        rows = pq.read_table(settle(self, result))
        pq.write_table(rows.filter(pc.field("visit_id") != 16), result)
        return result

    monkeypatch.setattr(Overlap, "settle", lossy)


def take_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of an older file, which was not read again, is taken for one that was."""
    without = PublishedRows.without

    def greedy(self: Any, manifest: Any, file: Any, gone: str, staging: Path) -> Any:
        return without(self, manifest, file, f"({gone} OR visit_id = 3)", staging)

    monkeypatch.setattr(PublishedRows, "without", greedy)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the window's own earlier publication held is given up."""
    monkeypatch.setattr(AddedRows, "add", lambda *_: None)


@pytest.mark.parametrize(
    ("load", "fault", "window", "message"),
    [
        ("append", leave_out(Overlap), LAST_DAYS, "1 rows were left out as published before, and are not"),
        ("append", leave_out_the_edge, LAST_DAYS, "1 rows were left out as published before, and are not"),
        ("merge", leave_out(Merge), LAST_DAYS, "1 rows would vanish from visit_date=2024-01-01"),
        ("append", take_out, LAST_DAYS, "1 rows would vanish from visit_date=2024-01-04"),
        ("merge", take_out, LAST_DAYS, "1 rows would vanish from visit_date=2024-01-04"),
        ("append", forget, FIRST_DAYS, "1 rows would vanish from visit_date=2024-01-01.* not read again"),
        ("merge", forget, FIRST_DAYS, "1 rows would vanish from visit_date=2024-01-01.* not read again"),
    ],
)
def test_row_that_publishing_gives_up(
    project: Project, monkeypatch: pytest.MonkeyPatch, load: str, fault: Fault, window: dict[str, str], message: str
) -> None:
    project.configure(f"{VISITS}load: {load}\n")
    project.execute(INSERT, some_visits(50))
    project.run(**FIRST_DAYS)
    project.execute("UPDATE visits SET updated_at = '2024-03-01 00:00:00' WHERE visit_id = 5")
    fault(monkeypatch)
    refused(project, StorageError, message, **window)


def test_late_row_that_is_taken_for_one_read_before(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.execute(INSERT, some_visits(50))
    project.run()
    late = datetime.fromisoformat(json.loads(*project.variables.values())["bound"]) - timedelta(minutes=9)
    project.execute(INSERT, [visit(99, late.replace(tzinfo=None))])
    leave_out(Overlap)(monkeypatch)
    refused(project, StorageError, "1 rows were left out as published before, and are not")
