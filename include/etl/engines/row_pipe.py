"""Carries what one thread reads from the database to another that uses it, a little ahead and no more."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

AHEAD = 2
"""Items that may wait to be used; the reading thread then pauses, and with it the server."""

T = TypeVar("T")


class Pipe(Generic[T]):
    """Takes items on a thread of its own; `items` is the other end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._free = threading.Semaphore(AHEAD)
        self._ready: queue.SimpleQueue[T | BaseException | None] = queue.SimpleQueue()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self, fill: Callable[[], None]) -> None:
        """Run `fill`, which puts into this pipe, on the thread; what it raises is raised by `items`."""
        self._thread = threading.Thread(target=self._run, args=(fill,), name=self._name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand one item over; waits while enough are ahead. After `stop` the item is dropped."""
        if not self._stopped:
            self._free.acquire()
            self._ready.put(item)

    def items(self, timeout_s: float) -> Iterator[T]:
        """Items in order; raises what the thread raised, and TimeoutError when all of it takes too long."""
        deadline = time.monotonic() + timeout_s
        while (item := self._next(deadline)) is not None:
            if isinstance(item, BaseException):
                raise item
            self._free.release()
            yield item

    def stop(self) -> None:
        """Take no more items; a thread that waits to hand one over goes on."""
        self._stopped = True
        self._free.release()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread; whether it has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _next(self, deadline: float) -> T | BaseException | None:
        try:
            return self._ready.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None

    def _run(self, fill: Callable[[], None]) -> None:
        try:
            fill()
            self._flush()
        except BaseException as error:  # noqa: BLE001 the thread's error is raised where the items are used
            self._ready.put(error)
        else:
            self._ready.put(None)

    def _flush(self) -> None:
        """Hand over what is still held back at the end."""


class RowPipe(Pipe[bytes]):
    """A file for a driver to write rows to; the items are chunks of whole rows."""

    def __init__(self, chunk_bytes: int, name: str) -> None:
        super().__init__(name)
        self._chunk_bytes = chunk_bytes
        self._rows: list[bytes] = []
        self._size = 0

    def write(self, row: bytes) -> int:
        """Take one row; after `stop` it is dropped."""
        if not self._stopped:
            self._rows.append(row)
            self._size += len(row)
            if self._size >= self._chunk_bytes:
                self._flush()
        return len(row)

    def _flush(self) -> None:
        if self._rows:
            chunk, self._rows, self._size = b"".join(self._rows), [], 0
            self.put(chunk)
