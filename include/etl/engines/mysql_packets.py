"""Rows of a result as the server's packets bring them, many at a time and without an object for each.

A packet is a length of three bytes, a number that counts up, and its payload: one row, or the result's end. A row
of 16 MiB or more comes in several packets.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pymysql import err
from pymysql.constants import CR

HEADER, LONGEST = 4, 0xFFFFFF
END, ERROR = b"\xfe", b"\xff"
END_BYTES = 9
"""A packet that ends a result is shorter than this."""
AT_ONCE = 256 << 10
"""Bytes to ask the line for; most answers are of 16 KiB, as servers send them."""
ERROR_BYTES = 1024
"""An error with its message is shorter than this."""
SLACK = 16
"""Bytes that lie before and after the rows of a block, so that a window on a value never leaves it."""

Positions = npt.NDArray[np.int64]


class Block(NamedTuple):
    """Payloads of whole rows; `data` holds them until the next block is asked for."""

    data: bytearray
    starts: Positions
    ends: Positions


class RowPackets:
    """The rows that a connection's server is about to send; the connection is not free before `finished`."""

    def __init__(self, connection: Any, block_bytes: int, block_rows: int) -> None:
        self.finished, self.warnings = False, 0
        self._connection = connection
        self._rows = block_rows
        self._number: int = connection._next_seq_id
        self._data = bytearray(SLACK + max(block_bytes, ERROR_BYTES) + SLACK)
        self._view = memoryview(self._data)
        self._stop = len(self._data) - SLACK
        self._at = self._received = SLACK

    def block(self) -> Block | None:
        """The next rows, or None after the last.

        Raises:
            pymysql.Error: the server's own, or OperationalError where the line is cut or says what it must not.
        """
        self._make_room()
        starts: list[int] = []
        while not self.finished:
            self._hop(starts)
            self._end_with(starts)
            if self.finished or len(starts) >= self._rows:
                break
            if self._received == self._stop:
                if not starts:
                    return self._long_row()
                break
            self._received += self._receive(self._view[self._received : self._stop])
        return self._cut(starts) if starts else None

    def skip(self) -> None:
        """Read what is left up to its end, an error included."""
        try:
            while self.block():
                pass
        except err.Error:
            self.finished = True

    def _make_room(self) -> None:
        """Move what came of the next rows to the front."""
        left = self._received - self._at
        self._data[SLACK : SLACK + left] = self._data[self._at : self._received]
        self._at, self._received = SLACK, SLACK + left

    def _hop(self, starts: list[int]) -> None:
        """Add the packets that are here as a whole: the one loop that runs once for every row."""
        data, at, last, before = self._data, self._at, self._received - HEADER, len(starts)
        add = starts.append
        for _ in range(self._rows - before):
            if at > last:
                break
            add(at)
            at += HEADER + (data[at] | data[at + 1] << 8 | data[at + 2] << 16)
        if at > self._received:  # the last one is not complete
            at = starts.pop()
        self._at = at

    def _end_with(self, starts: list[int]) -> None:
        """Take the packet off that ends the result; nothing follows it."""
        payload = bytes(self._data[starts[-1] + HEADER : self._at]) if starts else b""
        if payload.startswith(ERROR):
            self.finished = True
            err.raise_mysql_exception(payload)
        if payload.startswith(END) and len(payload) < END_BYTES:
            self.finished, self.warnings = True, int.from_bytes(payload[1:3], "little")
            self._at = starts.pop()

    def _cut(self, starts: list[int]) -> Block:
        packets = np.array(starts, np.int64)
        numbers = np.frombuffer(self._data, np.uint8)[packets + 3]
        counting = np.arange(self._number, self._number + len(starts)).astype(np.uint8)
        if (numbers != counting).any():
            raise self._lost("packets out of order")
        self._number = (self._number + len(starts)) % 256
        return Block(self._data, packets + HEADER, np.append(packets[1:], self._at))

    def _long_row(self) -> Block:
        """One row that is longer than the buffer, by itself."""
        row, length = bytearray(SLACK), LONGEST
        while length == LONGEST:
            header = self._take(HEADER)
            length = int.from_bytes(header[:3], "little")
            if header[3] != self._number:
                raise self._lost("packets out of order")
            self._number = (self._number + 1) % 256
            row += self._take(length)
        ends = len(row)
        row += bytes(SLACK)
        return Block(row, np.array([SLACK], np.int64), np.array([ends], np.int64))

    def _take(self, size: int) -> bytearray:
        """So many bytes: those that are here, then those still to come."""
        taken = self._data[self._at : min(self._received, self._at + size)]
        self._at += len(taken)
        here = len(taken)
        taken += bytes(size - here)
        with memoryview(taken) as view:
            while here < size:
                here += self._receive(view[here:])
        return taken

    def _receive(self, into: memoryview) -> int:
        """What has come, at least a byte; the connection's read timeout holds for each wait."""
        try:
            come: bytes = self._connection._rfile.read1(min(len(into), AT_ONCE))  # readinto1 may wait for more
        except OSError as error:
            raise self._lost(str(error)) from None
        if not come:
            raise self._lost("closed")
        into[: len(come)] = come
        return len(come)

    def _lost(self, why: str) -> err.OperationalError:
        self.finished = True
        self._connection._force_close()
        return err.OperationalError(CR.CR_SERVER_LOST, f"Lost connection to MySQL server during query ({why})")
