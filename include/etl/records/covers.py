"""Which cursor values have been published, also where later publications or retention have left nothing of a window.

Without it such a window would look like one whose manifest is lost, and would be read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from include.etl.handover import Position, Window
from include.etl.records.manifest import Covered, Manifest


def by(one: Manifest) -> list[Covered]:
    """What this publication stands for: its own window, and those that it has taken over."""
    return [of_window(one.window), *one.covers]


def of(window: Window, gone: Sequence[Manifest]) -> list[Covered]:
    """What a new publication takes over from those that go; its own window says the rest."""
    own = of_window(window)
    taken = joined(covered for one in gone for covered in by(one) if _same_kind(covered, own))
    return [one for one in taken if not _within(one, own)]


def joined(covered: Iterable[Covered]) -> list[Covered]:
    """The same in as few pieces as possible, in order."""
    found: list[Covered] = []
    for one in sorted(covered, key=lambda one: rank(one.start)):
        if found and rank(one.start) <= rank(found[-1].end):
            end = max(found[-1].end, one.end, key=rank)
            found[-1] = Covered(start=found[-1].start, end=end)
        else:
            found.append(one)
    return found


def rank(position: Position | None) -> tuple[bool, Any]:
    """What positions of one kind are sorted by; None is the beginning."""
    return position is not None, position if position is not None else 0


def of_window(window: Window) -> Covered:
    """The cursor values that a run of this window has read."""
    return Covered(start=None if window.mode == "full" else window.start, end=window.end)


def _same_kind(one: Covered, other: Covered) -> bool:
    return isinstance(one.end, int) == isinstance(other.end, int)


def _within(one: Covered, other: Covered) -> bool:
    return rank(one.start) >= rank(other.start) and rank(one.end) <= rank(other.end)
