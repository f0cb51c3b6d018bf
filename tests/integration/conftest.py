"""A project of its own for each test: sources, a SQLite database, a data folder, Variables in memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest

from include.etl import run as runner
from include.etl.completeness.extraction import FILE, SliceTotals
from include.etl.completeness.totals import Totals
from include.etl.storage import write_json

VISITS = """
source: visits
description: Visits
conn_id: clinic
table: visits
primary_key: [visit_id]
cursor: {column: updated_at, lookback: 1h}
schedule: {incremental: "0 2 * * *"}
output: {formats: [parquet], partition_by: visit_date}
"""


READER = duckdb.connect(config={"enable_external_file_cache": False})
"""One for all tests, as starting a DuckDB takes longer than reading the rows; what it has read it forgets."""


@dataclass
class Memory:
    """Airflow Variables in memory."""

    variables: dict[str, str]

    def get(self, key: str) -> str | None:
        return self.variables.get(key)

    def set(self, key: str, value: str, description: str) -> None:
        self.variables[key] = value

    def delete(self, key: str) -> None:
        del self.variables[key]

    def overridden_by(self, key: str) -> str:
        return ""


@dataclass
class Project:
    """Where the test's sources and data lie, and what its checkpoints hold."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def memory(self) -> Memory:
        return Memory(self.variables)

    @property
    def published(self) -> Path:
        return self.folder / "data" / "processed" / "visits"

    def configure(self, text: str = VISITS, name: str = "visits") -> None:
        (self.folder / "sources" / f"{name}.yaml").write_text(text)

    def execute(self, sql: str, rows: list[tuple[Any, ...]] | None = None) -> None:
        with closing(sqlite3.connect(self.folder / "clinic.db")) as connection, connection:
            if rows is None:
                connection.execute(sql)
            else:
                connection.executemany(sql, rows)

    def run(self, **parameters: Any) -> runner.Result:
        return runner.run_source("visits", **parameters)

    def rows(self, columns: str = "visit_id, updated_at") -> list[tuple[Any, ...]]:
        """Everything a reader of the published folder sees."""
        found = f"read_parquet('{self.published}/**/*.parquet', union_by_name = true)"
        with closing(READER.cursor()) as connection:
            return sorted(connection.execute(f"SELECT {columns} FROM {found}").fetchall())

    def files(self) -> dict[str, bytes]:
        paths = [path for path in self.published.rglob("*") if path.is_file() and path.name != ".lock"]
        return {path.relative_to(self.published).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    made = Project(tmp_path)
    (tmp_path / "sources").mkdir()
    monkeypatch.setenv("ETL_INCLUDE", str(tmp_path))
    monkeypatch.setenv("ETL_DATA_URI", str(tmp_path / "data"))
    uri = {"conn_type": "sqlite", "host": str(tmp_path / "clinic.db")}
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps(uri))

    monkeypatch.setattr(runner, "CommandLineVariables", lambda: made.memory)
    made.configure()
    made.execute(
        "CREATE TABLE visits (visit_id BIGINT, visit_date DATE, fee DECIMAL(10,2), note TEXT, updated_at TIMESTAMP)"
    )
    return made


def record_totals(folder: Path, rows: int) -> None:
    """What extract leaves beside the parts that a test has written itself."""
    totals = SliceTotals(source=None, raw=Totals(rows=rows), reason="written by a test")
    write_json(folder / FILE, totals.model_dump())
