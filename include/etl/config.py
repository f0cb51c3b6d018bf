"""What a source YAML may say: every field described, unknown keys refused.

A source is `include/sources/<source>.yaml` merged over `include/sources/_defaults.yaml`, key by key. Importing this
module stays light, since every DAG parse does: pydantic and YAML only.
"""

from __future__ import annotations

import os
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from include.etl.config_alerts import Alerts
from include.etl.config_values import Column, Cron, Duration, FileName, Format, Model, Name, Share, Step, Zone

INCLUDE = Path(__file__).resolve().parents[1]
"""The project's own folder of sources, SQL and expectations."""


def include_folder() -> Path:
    """Folder with sources/, sql/ and expectations/: the project's own, or the one that ETL_INCLUDE names."""
    return Path(os.environ.get("ETL_INCLUDE") or INCLUDE)


class Cursor(Model):
    """The column that tells when a row was last written; windows are cut on it."""

    column: Column
    """Column of the query's result (not renamed yet) that holds a timestamp or a date, or a number."""
    type: Literal["time", "number", "rowversion"] = "time"
    """`number`: whole numbers that only grow, such as those of a sequence, identity or AUTO_INCREMENT column.
    `rowversion`: SQL Server's column of this type, which grows with every change of a row."""
    lookback: Duration = timedelta(0)
    """How far each incremental run reads back before its window, to catch rows that arrived late."""
    timezone: Zone = "UTC"
    """Time zone of a cursor column that carries none itself."""
    nulls: Literal["every_run", "first_run", "refuse"] = "every_run"
    """Rows whose cursor is NULL: read by every incremental run and published once (every_run), read only by runs that
    begin at the beginning, so that later ones are missed (first_run), or an error (refuse)."""
    lag: Duration | None = None
    """How far clocks that stamp rows may run behind the server's, and how long before its transaction a row may be
    stamped; nothing by default. Where open transactions cannot be seen, also how long they last, 10m at least."""
    longest_writer: Duration = timedelta(hours=1)
    """A transaction that has been open for longer is reported; if nothing new can be read before it, the run fails."""

    @model_validator(mode="after")
    def _of_its_type(self) -> Cursor:
        if self.numbered and self.lookback:
            raise ValueError(f"`lookback` is for times; with `type: {self.type}` no row comes late")
        if self.type == "rowversion" and self.lag is not None:
            raise ValueError("`lag` is for other types; with `type: rowversion` the server tells what is decided")
        return self

    @property
    def numbered(self) -> bool:
        """Whether positions on the cursor are numbers."""
        return self.type != "time"


class Schedule(Model):
    """When runs start: cron expressions in the source's time zone. Each entry is one DAG."""

    incremental: Cron | None = None
    """New and changed rows since the last run. Needs `cursor`."""
    full: Cron | None = None
    """Everything, replacing what was published before."""


class Extract(Model):
    """How the source database is read."""

    batch_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Rows fetched at a time."""
    statement_timeout: Duration = timedelta(seconds=300)
    """The database stops the query after this long."""
    connect_timeout: Duration = timedelta(seconds=10)
    """Give up connecting after this long."""
    require_tls: bool = False
    """Refuse a connection to the database that is not encrypted."""


class Split(Model):
    """How a large read is cut into slices that tasks read side by side: by a column, later by the cursor."""

    column: Column
    """Column of the result to cut by; it should lead an index, and rows keep its value. Best the primary key."""
    rows: Annotated[int, Field(ge=1_000)] = 1_000_000
    """About this many rows a slice, by the database's own statistics."""
    table: str | None = None
    """Table (schema.table) whose statistics tell about the column, for a source with a `query`."""


class Reference(Model):
    """A set of keys that rows must exist in: another source's published data, or a table of the same database."""

    source: Name | None = None
    """Published data of this source."""
    table: str | None = None
    """Or this table (schema.table) of the source's own database, read with `columns`."""
    columns: list[Column] = Field(default_factory=list)
    """Key columns to read from `table`."""

    @model_validator(mode="after")
    def _one_origin(self) -> Reference:
        if (self.source is None) == (self.table is None):
            raise ValueError("give either `source` (published data) or `table` with `columns` (the database)")
        if self.table and not self.columns:
            raise ValueError("`table` needs `columns`: the key columns to read")
        return self


class Validation(Model):
    """Which expectations the extracted rows must meet before anything is published."""

    on_failure: Literal["stop", "quarantine"] = "stop"
    """What a critical expectation about single rows does: stop the run, or set the rows aside and publish the rest."""
    max_rejected: Share = 0.01
    """With quarantine: set aside at most this share of a run's rows, else stop; such as 1% or 0.5%."""
    suite: FileName | None = None
    """File in include/expectations; `<source>.json` by default, where there is one."""
    references: dict[Name, Reference] = Field(default_factory=dict)
    """Key sets that expectations of the suite refer to by name."""


class Verify(Model):
    """How it is proven that what was read is what the source holds."""

    count: bool = True
    """Count the rows in the database too, each time some are read; `false` where that costs the database too much."""
    columns: list[Column] = Field(default_factory=list)
    """Columns of the result whose values are summed up too: whole numbers, decimals, dates, timestamps, text."""

    @model_validator(mode="after")
    def _counted(self) -> Verify:
        if self.columns and not self.count:
            raise ValueError("`columns` needs `count`: the database sums up while it counts")
        return self


class Transform(Model):
    """How rows are cleaned and standardised, in this order: steps, types, trim, rename, names."""

    steps: list[Step] = Field(default_factory=list)
    """The source's own transformations, by their names in include/etl/transforms."""
    types: dict[Column, str] = Field(default_factory=dict)
    """Column -> DuckDB type to convert to, such as DATE or DECIMAL(10,2). A value that does not fit stops the run."""
    trim: bool = True
    """Remove spaces around text values."""
    rename: dict[Column, Column] = Field(default_factory=dict)
    """Column -> published name."""
    names: Literal["snake_case", "unchanged"] = "snake_case"
    """How the remaining column names are standardised."""


class Output(Model):
    """What is published."""

    formats: Annotated[list[Format], Field(min_length=1)]
    """File formats, each once; each is written for every partition."""
    partition_by: Column | None = None
    """Published name of the date column that names the Hive folders (column=2025-01-31); no folders without it."""


class Retries(Model):
    """What happens after a transient error: lost connection, deadlock, server restart. Other errors fail at once."""

    attempts: Annotated[int, Field(ge=0, le=20)] = 3
    """Retries after the first try."""
    delay: Duration = timedelta(seconds=5)
    """Pause before each retry."""


class Source(Model):
    """One data source: a table or query, when it is extracted, and what is published."""

    source: Name
    """Name of the source; also its file, its DAG and its folders. Lower case, digits and underscores."""
    description: Annotated[str, Field(min_length=1)]
    """What the data is, in a sentence for the person who finds it in the list of DAGs."""
    owner: str = "data-platform"
    """Team that answers for this source."""
    contact: str = ""
    """Mail address or channel of the people to ask."""
    tags: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(default_factory=list)
    """Tags of the DAG."""
    conn_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    """Airflow connection of the database; its type says which engine reads it."""
    query: FileName | None = None
    """File in include/sql with one SELECT. Either this or `table`."""
    table: str | None = None
    """Table or view to read (schema.table). Either this or `query`."""
    columns: list[Column] = Field(default_factory=list)
    """Columns of `table`, in order; all of them by default."""
    primary_key: list[Column] = Field(default_factory=list)
    """Columns that identify a row; of several versions in one window the latest by cursor stays."""
    cursor: Cursor | None = None
    """The column that windows are cut on; without it only full extraction is possible."""
    schedule: Schedule
    """When runs start."""
    timezone: Zone = "UTC"
    """Time zone of the schedule, and of `start` and `end` given without one."""
    start_date: date = date(2024, 1, 1)
    """No scheduled data interval begins before this day."""
    pool: str | None = None
    """Airflow pool that limits parallel reads of the database; the connection's name by default."""
    split: Split | None = None
    """How large reads are cut into slices, side by side; in one piece by default."""
    extract: Extract = Extract()
    """How the database is read."""
    verify: Verify = Verify()
    """How completeness is proven."""
    validation: Validation = Validation()
    """Which expectations must hold."""
    transform: Transform = Transform()
    """How rows are cleaned."""
    output: Output
    """What is published, in which formats and folders."""
    load: Literal["append", "merge"] = "append"
    """`append` keeps every version of a row (key and cursor); `merge` keeps the current row of each key."""
    deletes: Literal["ignore", "mark"] = "ignore"
    """`mark`: a full run keeps the last row of a key that left the source, with the time in `_deleted_at`."""
    max_deletes: Share = 0.1
    """With `deletes: mark`, a full run that would mark more of the published keys than this is refused."""
    schema_changes: Literal["evolve", "warn", "fail"] = "warn"
    """Columns differ from those published before: `warn` and `evolve` publish what stays readable together,
    `evolve` with a full run also replaces types that do not; `fail` publishes nothing."""
    require_reason: bool = False
    """Refuse a run that a person starts without saying why (`reason`)."""
    retries: Retries = Retries()
    """What happens after a transient error."""
    alerts: Alerts = Alerts()
    """Who is told when something is wrong."""
    memory_limit_mb: Annotated[int, Field(ge=512, le=1_048_576)] = 2048
    """Memory that one task may use, in MiB; what does not fit is spilled to disk."""

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        if (self.query is None) == (self.table is None):
            raise ValueError("give either `query` (a file in include/sql) or `table`")
        if self.query and self.columns:
            raise ValueError("`columns` belongs to `table`; a query names its own columns")
        if not (self.schedule.incremental or self.schedule.full):
            raise ValueError("`schedule` needs at least one of: incremental, full")
        if len(set(self.output.formats)) < len(self.output.formats):
            raise ValueError("`output.formats` names a format twice")
        if self.cursor and self.cursor.column in self.transform.types:
            raise ValueError("`transform.types` cannot convert the cursor column; convert it in a query")
        if self.split and not (self.table or self.split.table):
            raise ValueError(
                "`split` of a `query` needs `split.table`: the table whose statistics tell about the column"
            )
        by_cursor = self.split and self.cursor and self.split.column == self.cursor.column
        if by_cursor and not (self.schedule.incremental and self.primary_key):
            raise ValueError(
                "`split.column` is the cursor: a row that is updated between two slices moves to another one, so "
                "`schedule.incremental` (which reads it again) and `primary_key` are needed; or split by a column "
                "whose values stay"
            )
        if self.cursor and self.cursor.lookback and not self.primary_key:
            raise ValueError("`cursor.lookback` needs `primary_key`: rows read twice are told apart by it")
        if self.schedule.incremental and not self.cursor:
            raise ValueError("`schedule.incremental` needs `cursor`: the column that tells new rows from old ones")
        return self

    @model_validator(mode="after")
    def _rows_have_keys(self) -> Source:
        needing = [f"{k}: {v}" for k, v in (("load", self.load), ("deletes", self.deletes)) if v in ("merge", "mark")]
        if needing and not self.primary_key:
            raise ValueError(f"`{needing[0]}` needs `primary_key`: the columns that tell which row is which")
        return self

    @cached_property
    def pool_name(self) -> str:
        """The Airflow pool that all tasks reading the database share."""
        return self.pool or self.conn_id

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone of the schedule."""
        return ZoneInfo(self.timezone)

    @cached_property
    def dag_ids(self) -> dict[str, str]:
        """Schedule entry -> DAG id; the first entry's DAG carries the source's own name."""
        entries = [mode for mode in ("incremental", "full") if getattr(self.schedule, mode)]
        return {mode: self.source if number == 0 else f"{self.source}_{mode}" for number, mode in enumerate(entries)}

    @cached_property
    def suite_path(self) -> Path | None:
        """The expectation suite, or None where the source names none and has none by its own name."""
        path = include_folder() / "expectations" / (self.validation.suite or f"{self.source}.json")
        return path if self.validation.suite or path.exists() else None
