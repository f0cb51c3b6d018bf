"""How far the numbers of a cursor can be trusted to grow, by what the catalogue tells of their generator."""

from __future__ import annotations

from collections.abc import Iterator

from include.etl.config import Source
from include.etl.engines.base import Numbering
from include.etl.errors import ConfigurationError


def doubts(source: Source, found: Numbering | None) -> Iterator[str]:
    """Why a row may bear a number below those that have been read, whoever is in a transaction.

    Raises:
        ConfigurationError: the numbers go down, so that no later run would read anything.
    """
    assert source.cursor is not None
    if found is None:
        yield "what hands out its numbers is not known (a view or a join), so that they only grow is not, either"
    elif not found.generator:
        yield "no sequence or identity hands out its numbers: that they only grow is up to whoever writes them"
    else:
        yield from _of_generator(source, found)


def _of_generator(source: Source, found: Numbering) -> Iterator[str]:
    assert source.cursor is not None
    if found.step < 0:
        raise ConfigurationError(
            f"source {source.source!r}: cursor.column: {source.cursor.column!r}: {found.generator} counts down (step "
            f"{found.step}): every new row would lie below those that were read; allowed: numbers that grow, or a time"
        )
    if found.cycles:
        yield f"{found.generator} has CYCLE: it begins again, below what was read, once its numbers are used up"
    if found.ahead > 1 and source.cursor.lag is None:
        yield (
            f"{found.generator} has CACHE {found.ahead}: a session keeps so many numbers for later transactions; set "
            "cursor.lag to how long sessions keep them, or CACHE 1"
        )
    if found.others:
        yield f"{found.generator}: {found.others}"


def overtaken(found: Numbering | None, largest: int | None) -> str:
    """Why the generator's next numbers lie below those that were read; empty where nothing tells so."""
    if found is None or found.last is None or largest is None or largest <= found.last:
        return ""
    return (
        f"its largest number is {largest}, but {found.generator} has come to {found.last} only: somebody has written "
        "numbers of his own, or has set it back, and rows with the next ones lie below what was read"
    )
