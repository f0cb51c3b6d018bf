"""Child processes that never outlive this one, not even when it is killed.

A guard process holds the other end of a pipe. When the pipe closes, because `stop` was called or because this process
is gone in whatever way, the guard ends every process of the sessions that were started: SIGTERM first, SIGKILL later.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

GRACE_S = 10.0


class Lifeline:
    """Starts processes, each with its output in a log file; `stop` ends them and all that they started."""

    def __init__(self, held_open: int) -> None:
        """`held_open` is a file descriptor (a lock) that stays open until the last process has gone."""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.logs: dict[str, Path] = {}
        self._guard = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, start_new_session=True, pass_fds=(held_open,)
        )

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start a process as the leader of its own session."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name], self.logs[name] = process, log
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{process.pid}\n".encode())
        self._guard.stdin.flush()

    def ended(self) -> str | None:
        """The name of a process that has ended by itself, if one has."""
        return next((name for name, process in self.processes.items() if process.poll() is not None), None)

    def stop(self) -> None:
        """End all processes; returns when none is left."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()
        for process in self.processes.values():
            process.kill()  # its first thread is gone by now; others may not be yet
            process.wait()  # or it would stay a zombie


def members(sessions: set[int]) -> list[int]:
    """Ids of the living processes of these sessions; zombies are dead."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def end(sessions: set[int], grace_s: float = GRACE_S) -> None:
    """Ask the leaders to end, which lets them end their own children; kill what is left after the grace time."""
    _signal([pid for pid in members(sessions) if pid in sessions], signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (left := members(sessions)) and time.monotonic() < deadline:
        time.sleep(0.1)
    while left:
        _signal(left, signal.SIGKILL)
        time.sleep(0.1)
        left = members(sessions)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end({int(line) for line in sys.stdin})
