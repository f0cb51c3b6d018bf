"""Time limits for calls of a driver that may wait for a silent server without end, and how to end such a wait."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: when the line is closed, what is on its way is thrown away, and the other side is told so."""


class Overdue(Exception):
    """The call took too long; `thread` still waits in it."""

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__("the call took too long")
        self.thread = thread


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` gives or raises, run on a thread of its own; raises Overdue when that takes longer."""
    done: queue.SimpleQueue[tuple[bool, T | BaseException]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((True, call()))
        except BaseException as error:  # noqa: BLE001 raised again where the result is waited for
            done.put((False, error))

    thread = threading.Thread(target=run, name="database call", daemon=True)
    thread.start()
    try:
        succeeded, outcome = done.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise Overdue(thread) from None
    thread.join()
    if not succeeded:
        assert isinstance(outcome, BaseException)
        raise outcome
    return outcome  # type: ignore[return-value]


def cut_line(fileno: int) -> None:
    """Break the line under a thread that waits on it; its owner has still to close it.

    Without a reset, a server that waits to send more would wait on for as long as its own timeout lets it: the window
    of a line that was shut down stays closed.
    """
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fileno)) as line:
        with contextlib.suppress(OSError):  # a line that cannot be reset can still be ended
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        line.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cut_after(seconds: float, cut: Callable[[], None]) -> Iterator[None]:
    """Call `cut`, which must make the waiting driver fail, when the block takes longer; it then raises TimeoutError."""
    overdue = threading.Event()

    def give_up() -> None:
        overdue.set()
        cut()

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        if overdue.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
        timer.join()
