"""Aggregates that SQLite lacks: exact sums of what it stores, read as the declared types are."""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from include.etl.engines.sqlite_types import WIDE, exact, printed

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HASH_BYTES = 7
"""How much of a SHA-256 counts: as many bits as `completeness/checksums.py` takes in other databases."""


class Total:
    """Adds up one exact number per value; SQLite's own sum overflows, or is a float."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.sum = Decimal(0)

    def step(self, value: Any) -> None:
        """Take one more value."""
        if value is not None:
            self.sum = WIDE.add(self.sum, self.number(value))

    def finalize(self) -> str:
        """The sum as text."""
        return f"{self.sum:f}"

    @staticmethod
    def number(value: Any) -> Decimal:
        """What the value adds."""
        raise NotImplementedError


class TotalNumbers(Total):
    """Integers and decimals."""

    name = "total_numbers"
    number = staticmethod(exact)


class TotalDays(Total):
    """Dates, as days since 1970."""

    name = "total_days"

    @staticmethod
    def number(value: Any) -> Decimal:
        """Days since 1970."""
        return Decimal((date.fromisoformat(value) - EPOCH.date()).days)


class TotalMicroseconds(Total):
    """Timestamps, as microseconds since 1970; text that names no zone is UTC."""

    name = "total_microseconds"

    @staticmethod
    def number(value: Any) -> Decimal:
        """Microseconds since 1970."""
        moment = datetime.fromisoformat(value)
        return Decimal(((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1))


class TotalText(Total):
    """Text, as the first bits of the SHA-256 of its UTF-8."""

    name = "total_text"

    @staticmethod
    def number(value: Any) -> Decimal:
        """A number that another text hardly has."""
        digest = hashlib.sha256(str(printed(value)).encode()).digest()
        return Decimal(int.from_bytes(digest[:HASH_BYTES], "big"))


def register(connection: sqlite3.Connection) -> None:
    """Make the aggregates known to the connection."""
    totals: tuple[type[Total], ...] = (TotalNumbers, TotalDays, TotalMicroseconds, TotalText)
    for total in totals:
        connection.create_aggregate(total.name, 1, total)  # type: ignore[arg-type]
