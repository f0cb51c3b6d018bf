"""Numbers that begin again below the checkpoint: doubted until what was handed out anew has been read.

A table is emptied and filled again, or its sequence is set back. As long as the largest number lies below the
checkpoint everybody can see it; once it has passed that, nothing shows any more that rows were not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from include.etl.config import Source
from include.etl.handover import Bound, Handover, Moment, Window, written
from include.etl.records import checkpoint, covers
from include.etl.records import manifest as manifests
from include.etl.records.manifest import Covered, Manifest
from include.etl.records.run import Run
from include.etl.storage import Storage, read_json, write_json


class SetBack(Handover):
    """The largest number was seen to lie below the checkpoint."""

    largest: int | None
    """The smallest of those that were seen; None for a table without rows."""
    reached: int
    """Everything below this counted as read, the most of those times."""
    at: Moment
    """The last time."""


def doubted(run: Run, first: int | None, bound: Bound, variables: checkpoint.Variables) -> Bound:
    """The bound of a window that begins at `first`, with both numbers where numbers come again, or have come again."""
    current = checkpoint.parse(run.source, variables)
    if current is None:
        return bound
    reached = int(written(current.bound))
    largest = bound.asked - 1 if isinstance(bound.asked, int) else None
    if largest is None or largest + 1 < reached:
        why = (
            f"{_largest(largest, 'is')}, and everything below {reached} counts as read (the checkpoint): rows have "
            "been deleted, or numbers begin again. New rows with numbers below it are not read; if there are any, "
            "reset the checkpoint and run once with mode full"
        )
        return _with(bound, why).model_copy(update={"below": reached})
    earlier = kept(run.storage, run.source)
    if first is None or earlier is None or _reaches_back(Covered(start=first, end=reached), earlier):
        return bound
    if _read_since(earlier, first, manifests.current(run.storage, run.source.source)):
        return bound
    why = (
        f"{_largest(earlier.largest, 'was')} at {earlier.at:%Y-%m-%dT%H:%MZ}, while everything below {earlier.reached} "
        "counted as read (the checkpoint): rows that were given numbers below it again, if any, have not been read. "
        "Run once with mode full, which reads them and ends this"
    )
    return _with(bound, why)


def remember(run: Run, window: Window, bound: Bound) -> None:
    """Keep what `doubted` has found for later runs, and drop what has been read meanwhile."""
    earlier, path = kept(run.storage, run.source), _path(run.storage, run.source)
    if bound.below is not None:
        seen = [bound.asked - 1 if isinstance(bound.asked, int) else None, *([earlier.largest] if earlier else [])]
        largest = None if None in seen else min(one for one in seen if one is not None)
        reached = max(bound.below, earlier.reached if earlier else bound.below)
        new = SetBack(largest=largest, reached=reached, at=datetime.now(UTC))
        write_json(path, {"of": _of(run.source), "set_back": new.model_dump(mode="json")})
        return
    if earlier is None or window.mode == "range" or not isinstance(window.start, int):
        return
    if _read_since(earlier, window.start, manifests.current(run.storage, run.source.source)):
        path.unlink(missing_ok=True)


def kept(storage: Storage, source: Source) -> SetBack | None:
    """What earlier runs have seen of this table and column."""
    path = _path(storage, source)
    found = read_json(path) if path.exists() else {}
    return SetBack.model_validate(found["set_back"]) if found.get("of") == _of(source) else None


def _read_since(one: SetBack, first: int, published: Sequence[Manifest]) -> bool:
    """Whether publications since then hold all from the numbers that came again up to where this run goes on."""
    since = [covers.of_window(manifest.window) for manifest in published if manifest.published_at > one.at]
    pieces = covers.joined(covered for covered in since if isinstance(covered.end, int))
    return any(_reaches_back(piece, one) and int(written(piece.end)) >= first for piece in pieces)


def _reaches_back(piece: Covered, one: SetBack) -> bool:
    """Whether it begins no later than the numbers that came again."""
    if piece.start is None:
        return True
    return one.largest is not None and int(written(piece.start)) <= one.largest + 1


def _largest(number: int | None, verb: str) -> str:
    if number is None:
        return f"there {verb} no row" + (" any more" if verb == "is" else "")
    return f"the largest number {verb} {number}"


def _with(bound: Bound, why: str) -> Bound:
    return bound.model_copy(update={"caveats": [*bound.caveats, why], "degraded": True, "grade": "not proven"})


def _path(storage: Storage, source: Source) -> Path:
    return storage.folder("observations", source.source) / "set_back.json"


def _of(source: Source) -> list[str | None]:
    """What makes numbers of two runs comparable: where they are read, and in which column."""
    assert source.cursor is not None
    return [source.conn_id, source.table or source.query, source.cursor.column]
