"""Carries rows from the thread that reads the database to the one that parses them, in chunks of whole rows."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

CHUNKS_AHEAD = 2
"""Chunks that may wait to be parsed; the reading thread then pauses, and with it the server."""


class RowPipe:
    """A file for a driver to write rows to, on a thread of its own; `chunks` is the other end."""

    def __init__(self, chunk_bytes: int, name: str) -> None:
        self._chunk_bytes = chunk_bytes
        self._name = name
        self._rows: list[bytes] = []
        self._size = 0
        self._free = threading.Semaphore(CHUNKS_AHEAD)
        self._ready: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self, fill: Callable[[], None]) -> None:
        """Run `fill`, which writes to this pipe, on the thread; what it raises is raised by `chunks`."""
        self._thread = threading.Thread(target=self._run, args=(fill,), name=self._name, daemon=True)
        self._thread.start()

    def write(self, row: bytes) -> int:
        """Take one row; waits while enough chunks are ahead. After `stop` the row is dropped."""
        if not self._stopped:
            self._rows.append(row)
            self._size += len(row)
            if self._size >= self._chunk_bytes:
                self._hand_over()
        return len(row)

    def chunks(self, timeout_s: float) -> Iterator[bytes]:
        """Chunks in order; raises what the thread raised, and TimeoutError when all of it takes too long."""
        deadline = time.monotonic() + timeout_s
        while (item := self._next(deadline)) is not None:
            if isinstance(item, BaseException):
                raise item
            self._free.release()
            yield item

    def stop(self) -> None:
        """Take no more rows; a thread that waits to hand one over goes on."""
        self._stopped = True
        self._free.release()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread; whether it has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _next(self, deadline: float) -> bytes | BaseException | None:
        try:
            return self._ready.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None

    def _run(self, fill: Callable[[], None]) -> None:
        try:
            fill()
            if self._rows:
                self._hand_over()
        except BaseException as error:  # noqa: BLE001 the thread's error is raised where the chunks are read
            self._ready.put(error)
        else:
            self._ready.put(None)

    def _hand_over(self) -> None:
        self._free.acquire()
        chunk, self._rows, self._size = b"".join(self._rows), [], 0
        self._ready.put(chunk)
