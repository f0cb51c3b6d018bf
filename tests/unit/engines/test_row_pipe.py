from __future__ import annotations

import threading

import pytest

from include.etl.engines.row_pipe import AHEAD, RowPipe


def test_rows_come_whole_and_in_order() -> None:
    rows = [f"{n:05}\n".encode() for n in range(1000)]
    pipe = RowPipe(100, "test")
    pipe.start(lambda: [pipe.write(row) for row in rows] and None)
    chunks = list(pipe.items(10))
    assert b"".join(chunks) == b"".join(rows)
    assert all(chunk.endswith(b"\n") and len(chunk) < 110 for chunk in chunks)
    assert pipe.join(1)


def test_no_rows_are_no_chunks() -> None:
    pipe = RowPipe(100, "test")
    pipe.start(lambda: None)
    assert list(pipe.items(10)) == []


def test_an_error_of_the_thread_is_raised_after_its_rows() -> None:
    pipe = RowPipe(1, "test")

    def fill() -> None:
        pipe.write(b"row\n")
        raise ZeroDivisionError

    pipe.start(fill)
    chunks = pipe.items(10)
    assert next(chunks) == b"row\n"
    with pytest.raises(ZeroDivisionError):
        next(chunks)


def test_the_thread_waits_for_the_reader_and_stop_frees_it() -> None:
    written, blocked = [], threading.Event()
    pipe = RowPipe(1, "test")

    def fill() -> None:
        for n in range(100):
            if n == AHEAD:
                blocked.set()
            pipe.write(b"row\n")
            written.append(n)

    pipe.start(fill)
    assert blocked.wait(5)
    assert not pipe.join(0.05)
    assert len(written) == AHEAD
    pipe.stop()
    assert pipe.join(5)


def test_silence_is_a_timeout() -> None:
    pipe, quiet = RowPipe(1, "test"), threading.Event()
    pipe.start(lambda: quiet.wait(5) and None)
    with pytest.raises(TimeoutError):
        list(pipe.items(0.05))
    quiet.set()
    assert pipe.join(5)
