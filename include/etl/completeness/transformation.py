"""The link between: transform leaves out exactly the rows that it has a reason to leave out."""

from __future__ import annotations

from include.etl.config import Source
from include.etl.errors import DataError


def check_kept(source: Source, *, read: int, surplus: int, unique: int, written: int) -> None:
    """Compare the rows that are left with those that must be: `surplus` are the older versions, counted by key.

    Raises:
        DataError: rows are missing, or too many, that no duplicate and no own step explains.
    """
    if unique != read - surplus:
        raise _lost(source, "raw parts - older versions = rows that stay", read - surplus, unique)
    if not source.transform.steps and written != unique:
        raise _lost(source, "rows that stay = interim file", unique, written)


def _lost(source: Source, link: str, expected: int, found: int) -> DataError:
    return DataError(
        f"source {source.source!r}: rows were lost or added on the way ({link}): rows: {expected} and {found}; nothing "
        "was published and the checkpoint stays. Clear the transform task to do it again"
    )
