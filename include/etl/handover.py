"""What one phase hands to the next: small, typed, JSON; it travels through XCom, the data never does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

METADATA = ("_source", "_run_id", "_extracted_at", "_window_start", "_window_end")
"""Columns that transform adds to every row."""

DELETED_AT = "_deleted_at"
"""Column of a source with `deletes: mark`: when a full run found the row gone; NULL for rows that are there."""

Mode = Literal["incremental", "backfill", "full", "range"]


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a moment with a time zone")
    return value.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_utc)]
Position = Annotated[int, Field(strict=True)] | Moment
"""A place on the cursor: a moment, or a number where `cursor.type` is number or rowversion."""


def written(position: Position) -> str:
    """A position as parameters and checkpoints have it."""
    return position.isoformat() if isinstance(position, datetime) else str(position)


class Handover(BaseModel):
    """Base of all that travels between tasks."""

    # What does not validate may be data, such as a manifest's cursor values; it must not reach a traceback.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Window(Handover):
    """Which rows a run covers: `[start, end)` on the cursor, times in UTC. No start: from the very first row."""

    mode: Mode
    start: Position | None = None
    end: Position
    read_from: Position | None = None
    """Where reading begins: `start` less the lookback. Rows before `start` are published only if they are new."""

    @property
    def name(self) -> str:
        """File name stem. The same rows asked for again get the same name, and so replace their own files only."""
        if self.mode == "full":
            return f"full_{_stamp(self.end)}"
        return f"{'begin' if self.read_from is None else _stamp(self.read_from)}_{_stamp(self.end)}"

    @property
    def label(self) -> str:
        """The window as a person reads it."""
        start = "everything" if self.mode == "full" else "the beginning" if self.start is None else str(self.start)
        return f"{start} up to {self.end}"


def _stamp(moment: Position) -> str:
    if isinstance(moment, int):
        return str(moment)
    fraction = f".{moment.microsecond:06d}" if moment.microsecond else ""
    return f"{moment:%Y%m%dT%H%M%S}{fraction}Z"


class Bound(Handover):
    """What a window's end rests on: how sure it is that no row before it will be committed any more."""

    grade: Literal["writers seen", "lag", "not proven", "as asked"] = "as asked"
    """By the transactions in flight; by a lag, since those cannot be seen; by nothing that holds whatever happens (see
    `caveats`); or (a source without cursor) as it was asked for."""
    asked: Position | None = None
    """The end that the window would have had."""
    safe: Position | None = None
    """Up to here nothing will be committed any more."""
    observed_at: Moment | None = None
    """When, by the source's clock, `asked` was the end of the numbers that had been handed out."""
    below: int | None = None
    """The checkpoint, where all numbers lie below it."""
    lag_s: float = 0.0
    unseen: str = ""
    """Why transactions in flight cannot be seen."""
    relations: list[str] = Field(default_factory=list)
    """What the source's names stand for, and the tables below, by the catalogue: `schema.name`."""
    partitions: list[str] = Field(default_factory=list)
    """Tables that lie below one of them as a part of its rows."""
    attached: list[str] = Field(default_factory=list)
    """Those of them that were tables of their own before."""
    cured: list[str] = Field(default_factory=list)
    """Those of the caveats that the source's YAML has a cure for, so that nobody is alerted."""
    caveats: list[str] = Field(default_factory=list)
    """Why rows may appear before the end later, which neither transactions nor a lag show; a DBA understands them."""
    checked: list[str] = Field(default_factory=list)
    """Those of the caveats that every plan looks for anew."""
    degraded: bool = False
    """It is less sure than it could be, and operators are to learn of it."""
    writer: str | None = None
    """The session of the oldest transaction in flight, as a DBA finds it."""
    writer_since: Moment | None = None
    writer_too_old: bool = False
    """It has been open for longer than `cursor.longest_writer`."""

    def without_checks(self) -> Bound:
        """The same before plan looked for what it looks for anew; for a run that is cleared and keeps its window."""
        caveats = [one for one in self.caveats if one not in self.checked]
        kept: dict[str, Any] = {"caveats": caveats, "checked": [], "below": None}
        if self.checked and not caveats:
            kept |= {"grade": "lag" if self.unseen else "writers seen", "degraded": self.degraded and bool(self.unseen)}
        return self.model_copy(update=kept)

    @property
    def held(self) -> bool:
        """Whether the end lies before what was asked for."""
        return self.asked is not None and (self.safe is None or self.safe < self.asked)  # type: ignore[operator]

    @property
    def label(self) -> str:
        """What holds the end back, as a person reads it."""
        if not self.held:
            return "; ".join(self.caveats) or "nothing holds it back"
        held = f"held back from {self.asked} to {'the beginning' if self.safe is None else self.safe}"
        if self.writer:
            since = f", in a transaction since {self.writer_since}" if self.writer_since else ""
            return f"{held} by {self.writer}{since}"
        return f"{held} by a lag of {self.lag_s:g} s" + (f": {self.unseen}" if self.unseen else "")


class Slice(Handover):
    """A part of the window that is read by one task. Its bounds are keys of rows, so only its number travels."""

    index: int = 0


class Bounds(Handover):
    """Which rows a slice holds: those whose `column` lies in `[start, end)`. Kept in the run's folder.

    The one without start holds the rows without a value too; without column it is the whole window.
    """

    column: str | None = None
    kind: Literal["int", "Decimal", "str", "date", "datetime"] = "int"
    """Python type of the bounds, which are written as text."""
    start: str | None = None
    end: str | None = None


class Metrics(Handover):
    """What a phase did and what it cost."""

    phase: str
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0

    @property
    def rows_per_second(self) -> float:
        """Throughput over the whole phase."""
        return round(self.rows / self.seconds, 1) if self.seconds else 0.0


class Plan(Handover):
    """Output of plan."""

    run_id: str
    window: Window
    slices: list[Slice] = Field(default_factory=lambda: [Slice()])
    """None where nothing can be read safely yet."""
    bound: Bound = Bound()
    relations: list[str] = Field(default_factory=list)
    """What the source's names stood for when it was made; where that is not known, nothing."""
    reason: str = ""
    triggered_by: str = ""
    releases: str | None = None
    """Key of the run whose set-aside rows are read again."""
    keep_published: bool = False
    """Published rows that the source does not hold any more stay, though everything is read: a recovery asks for it."""
    id: str = ""
    """Of this plan alone: a cleared run is planned anew, and what was read by an earlier plan is not its own."""


class KeyEquality(Handover):
    """Which texts of a key's column are equal to the source, though they differ in bytes; none by default."""

    collation: str = ""
    """What the source compares them by, as it calls it."""
    case: bool = False
    """Capital and small letters of ASCII are equal."""
    blanks: bool = False
    """Blanks at the end count for nothing."""
    ascii_only: bool = False
    """This is known of texts of printable ASCII alone; of others the source may take some for equal as well."""
    unknown: str = ""
    """Why equality cannot be done as the source does it, and what can be selected instead."""
    untold: str = ""
    """Why the source does not tell; then bytes are compared."""


class Extracted(Handover):
    """Output of extract: one slice's raw parts, as paths below the data folder."""

    slice: Slice
    parts: list[str]
    rows: int
    bytes: int
    query_hash: str
    extracted_at: Moment
    plan_id: str = ""
    """The plan that it was read by."""
    consistency: Literal["snapshot", "none"] = "none"
    """Whether all rows of the slice are of one moment."""
    relations: list[str] = Field(default_factory=list)
    """What the source's names stood for in the session that read it, by the catalogue: `schema.name`."""
    caveats: list[str] = Field(default_factory=list)
    """What the session could not make sure of, so that the slice is not verified."""
    keys: dict[str, KeyEquality] = Field(default_factory=dict)
    """Columns of the key whose texts the source compares otherwise than by their bytes, where keys are compared."""


class Validated(Handover):
    """Output of validate."""

    verdict: Literal["passed", "warnings", "quarantined", "no suite"]
    expectations: int = 0
    quarantined: int = 0
    """Rows set aside because they break critical expectations."""
    warnings: list[str] = Field(default_factory=list)
    result: str | None = None
    report: str | None = None


class Transformed(Handover):
    """Output of transform: interim parts, and why there are fewer rows than were extracted."""

    parts: list[str]
    rows: int
    removed: dict[str, int]
    caveats: list[str] = Field(default_factory=list)
    """What operators are to know of the rows that were left out."""
    unverified: list[str] = Field(default_factory=list)
    """Those of the caveats with which it is not proven that no row is lost."""


class Loaded(Handover):
    """Output of load."""

    manifest: str
    rows: int
    files: int
    checkpoint: str | None = None
