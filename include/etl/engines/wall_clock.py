"""When something began, by a server that tells it in its local time: clocks that are set back tell an hour twice."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones


def begun(now: datetime, offset: timedelta, age: timedelta) -> datetime:
    """The earliest moment that may be meant by `age`, the time between two readings of a clock that is at `offset` now.

    What began before clocks were set back looks younger than it is. Servers do not name their zone, so every zone with
    this offset counts: in such a night a transaction is taken to be an hour older than it may be, and no row is lost.
    """
    wall = (now + offset - age).replace(tzinfo=None)
    zones = [zone for zone in _zones() if now.astimezone(zone).utcoffset() == offset]
    return min([now - age, *(wall.replace(tzinfo=zone).astimezone(UTC) for zone in zones)])


@functools.cache
def _zones() -> list[ZoneInfo]:
    return [ZoneInfo(name) for name in available_timezones()]
