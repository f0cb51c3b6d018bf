"""What was published, from what, proven how: one JSON file per publication, the last file a publication writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from include.etl.config import Source
from include.etl.errors import StorageError
from include.etl.handover import Handover, Moment, Window
from include.etl.storage import Storage, read_json

FOLDER = "_manifests"


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


class ColumnType(Handover):
    """A published column: its name and its Arrow type, spelled as Arrow prints it."""

    name: str
    type: str


class Rows(Handover):
    """How the number of rows came about: extracted = published + all of removed."""

    extracted: int
    removed: dict[str, int] = Field(default_factory=dict)
    published: int


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
    bound: str
    dag_id: str
    run_id: str
    reason: str = ""
    triggered_by: str = ""
    query_hash: str
    config_hash: str
    arrow_schema: str
    """The published Arrow schema, serialised by Arrow, as base64."""
    columns: list[ColumnType]
    partition_by: str | None = None
    cursor: str | None = None
    """Published name of the cursor column."""
    key: list[str] = Field(default_factory=list)
    """Published names of the primary key's columns."""
    rows: Rows
    replaced_later: int = 0
    """Rows that a later publication read again and publishes instead."""
    files: list[PublishedFile]
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
        raise StorageError(f"file {path} is no manifest: {place}: {issue['msg']}; restore it from a backup") from None


def current(storage: Storage, source: str) -> list[Manifest]:
    """All publications of a source that stand, oldest window first."""
    folder = published_folder(storage, source) / FOLDER
    return [read(path) for path in sorted(folder.glob("*.json")) if not path.name.startswith(".")]


def of_run(storage: Storage, source: Source, dag_id: str, run_id: str) -> Manifest | None:
    """What an earlier try of the same run published, if it got that far."""
    found = current(storage, source.source)
    return next((one for one in found if (one.dag_id, one.run_id) == (dag_id, run_id)), None)
