"""Lines to a server that fall silent: the bytes are held, and both ends stay open and well.

The lines are in a process of their own, which ends by itself: a reader that halts all of Python while it waits
would halt them too, and with them the test that is to find it out.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

LIFE_S = 25.0


@dataclass
class SilentNetwork:
    """A port for each line to the server."""

    ports: list[int]
    _orders: Connection

    def silence(self, line: int, after: int = 0) -> None:
        """From now on the line lets so many bytes of the server through, and then none in either direction."""
        self._orders.send((line, after))
        assert self._orders.poll(LIFE_S)
        self._orders.recv()


@contextmanager
def silent_network(host: str, port: int, lines: int) -> Iterator[SilentNetwork]:
    """So many lines to the server."""
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(host, port, lines, theirs))
    process.start()
    theirs.close()
    try:
        assert mine.poll(LIFE_S)
        yield SilentNetwork(mine.recv(), mine)
    finally:
        process.kill()
        process.join()
        mine.close()


def _serve(host: str, port: int, lines: int, orders: Connection) -> None:
    threading.Timer(LIFE_S, os._exit, [1]).start()
    made = [_Line(host, port) for _ in range(lines)]
    orders.send([line.port for line in made])
    while True:
        number, after = orders.recv()
        made[number].left = after
        orders.send("done")


class _Line:
    left: int | None = None
    """Bytes of the server that may still pass; without a limit at first."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._server)
            threading.Thread(target=self._carry, args=(client, server, 0), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, 1), daemon=True).start()

    def _carry(self, here: socket.socket, there: socket.socket, counted: int) -> None:
        with suppress(OSError):
            while data := here.recv(65_536):
                if self.left is not None:
                    allowed = data[: self.left]
                    self.left -= counted * len(allowed)
                    if not allowed:
                        threading.Event().wait()
                    data = allowed
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)
