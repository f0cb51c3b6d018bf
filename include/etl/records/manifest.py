"""What was published, from what, proven how: one JSON file per publication, the last file a publication writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from include.etl.errors import StorageError
from include.etl.handover import Bound, Handover, Moment, Position, Window
from include.etl.storage import Storage, read_json

FOLDER = "_manifests"
AGAIN = "published before"
"""How the reason begins why rows were left out that stand in another publication."""
OWN = "own transformation"
"""The reason why rows were left out by a source's own steps."""
RECOVER = "python scripts/recover.py check says what is lost, and docs/recovery.md how it is read again"
"""What to do about published data that is gone or damaged: no backup holds any."""
Consistency = Literal["one snapshot", "a snapshot per slice", "none", "not recorded"]


class PublishedFile(Handover):
    """One data file; `path` is relative to the source's published folder."""

    path: str
    format: str
    partition: str | None = None
    rows: int
    bytes: int
    sha256: str
    cursor_min: str | None = None
    """Smallest and largest cursor value in the file as text that sorts like the value; None without any."""
    cursor_max: str | None = None
    cursor_missing: bool = False
    """Whether some row has no cursor value."""
    deleted: int = 0
    """How many of the rows are marked as deleted."""


class ColumnType(Handover):
    """A published column: its name and its Arrow type, spelled as Arrow prints it."""

    name: str
    type: str


class SchemaChange(Handover):
    """How a column differs from the publication before."""

    kind: Literal["new", "missing", "type", "partition"]
    column: str
    old: str | None = None
    """Arrow type that it had; None for a new column."""
    new: str | None = None
    """Arrow type that it has; None for a missing column."""
    readable: bool = True
    """Whether files of both kinds can be read together without changing a value."""
    hint: str = ""

    def __str__(self) -> str:
        """The change as a person reads it."""
        if self.kind == "new":
            what = f"is new ({self.new})"
        elif self.kind == "missing":
            what = f"is missing (it was {self.old})"
        else:
            what = f"was {self.old}, is {self.new}" + ("" if self.readable else ": not readable together")
        name = "output.partition_by" if self.kind == "partition" else f"column {self.column!r}"
        return f"{name} {what}" + (f"; {self.hint}" if self.hint else "")


class Rows(Handover):
    """How the number of rows came about: extracted = published + all of removed."""

    extracted: int
    removed: dict[str, int] = Field(default_factory=dict)
    published: int


class Covered(Handover):
    """Cursor values `[start, end)` that have been published; no start: from the very first row."""

    start: Position | None = None
    end: Position


class Check(Handover):
    """One link of the chain from the source to the published files: what must agree, and what was found.

    Rows, and of the columns in `verify` the values that are not NULL and the checksum of their sum.
    """

    link: str
    expected: dict[str, Any]
    found: dict[str, Any]


class Completeness(Handover):
    """Whether the published rows are proven to be what the source held when it was read."""

    verified: bool
    reason: str = ""
    """Why it could not be proven; a difference would have stopped the run."""
    checks: list[Check] = Field(default_factory=list)


UNKNOWN = Completeness(verified=False, reason="not checked when it was published")


class Manifest(Handover):
    """The record of one publication. Later publications that replace some of its rows update `files` and `rows`."""

    format_version: Literal[1] = 1
    source: str
    window: Window
    bound: Bound
    consistency: Consistency = "not recorded"
    """What saw one state of the database: the whole read, each slice by itself, or nothing."""
    dag_id: str
    run_id: str
    reason: str = ""
    triggered_by: str = ""
    query_hash: str
    config_hash: str
    arrow_schema: str
    """The published Arrow schema, serialised by Arrow, as base64."""
    columns: list[ColumnType]
    source_schema: str | None = None
    """The Arrow schema as it was extracted, in the same form."""
    schema_changes: list[SchemaChange] = Field(default_factory=list)
    """How the published columns differ from those of the publication before."""
    partition_by: str | None = None
    cursor: str | None = None
    """Published name of the cursor column."""
    key: list[str] = Field(default_factory=list)
    """Published names of the primary key's columns."""
    rows: Rows
    kept: int = 0
    """Rows of this window's earlier publication that were not read again, and are in the files too."""
    deleted: int = 0
    """Rows that are no longer in the source, and are in the files too, marked (`deletes: mark`)."""
    replaced_later: int = 0
    """Rows that a later publication read again and publishes instead."""
    files: list[PublishedFile]
    covers: list[Covered] = Field(default_factory=list)
    """Windows of earlier publications of which nothing is left: their rows stand elsewhere, or retention is over."""
    caveats: list[str] = Field(default_factory=list)
    """What the run could not make sure of, in words for a DBA: of its end, of its reading, of rows left out."""
    completeness: Completeness = UNKNOWN
    validation: dict[str, Any]
    versions: dict[str, str]
    published_at: Moment
    phases: list[dict[str, Any]] = Field(default_factory=list)


def published_folder(storage: Storage, source: str) -> Path:
    """The folder that readers of a source's data are given."""
    return storage.folder("processed", source)


def path_of(window: Window) -> str:
    """Where the manifest of this window's publication lies, below the published folder."""
    return f"{FOLDER}/{window.name}.json"


def read(path: Path) -> Manifest:
    """The manifest in this file."""
    try:
        return Manifest.model_validate(read_json(path))
    except ValidationError as error:
        issue = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, issue["loc"]))
        raise StorageError(f"file {path} is no manifest: {place}: {issue['msg']}; {RECOVER}") from None


def current(storage: Storage, source: str) -> list[Manifest]:
    """All publications of a source that stand, oldest window first."""
    folder = published_folder(storage, source) / FOLDER
    return [read(path) for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]
