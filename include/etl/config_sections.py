"""The sections of a source YAML: how it is read, checked, changed and written."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from include.etl.config_values import Column, Cron, Duration, FileName, Format, Model, Name, Share, Step, Zone


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
    unreadable: Literal["refuse", "skip"] = "refuse"
    """Rows whose cursor no window holds, such as a zero date, an infinity, NaN, or text that is no date: an error
    (refuse), or left out of all runs and told by each (skip)."""
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
    row_security: Literal["refuse", "apply"] = "refuse"
    """Where policies hide rows from the account, or masks values: refuse to read, or read what it is shown (apply)."""


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
