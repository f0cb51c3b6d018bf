"""What a source YAML may say: every field described, unknown keys refused.

A source is `include/sources/<source>.yaml` merged over `include/sources/_defaults.yaml`, key by key. Importing this
module stays light, since every DAG parse does: pydantic and YAML only.
"""

from __future__ import annotations

import os
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from include.etl.config_alerts import Alerts
from include.etl.config_sections import Cursor, Extract, Output, Retries, Schedule, Split, Transform, Validation, Verify
from include.etl.config_values import Column, FileName, Model, Name, Share, Zone

INCLUDE = Path(__file__).resolve().parents[1]
"""The project's own folder of sources, SQL and expectations."""


def include_folder() -> Path:
    """Folder with sources/, sql/ and expectations/: the project's own, or the one that ETL_INCLUDE names."""
    return Path(os.environ.get("ETL_INCLUDE") or INCLUDE)


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
