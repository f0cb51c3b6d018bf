"""Runs one command in a fresh process and says what it cost: client, database server, and everything else."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 3600
SAMPLE_S = 0.05
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)
DISTURBED = 0.10
"""Share of the machine's cores that anything else may take before a run counts as disturbed."""


@dataclass(frozen=True)
class Cost:
    """What a process and its children took."""

    seconds: float
    cpu: float
    """CPU seconds of the client, user and system."""
    server_cpu: float
    """CPU seconds of the database server meanwhile."""
    other_cpu: float
    """CPU seconds of everything else on the machine meanwhile."""
    memory_mb: float
    """Peak resident memory of the process tree."""
    error: str | None
    output: str

    @property
    def disturbed(self) -> bool:
        """Whether something else on the machine may have slowed the run."""
        return self.other_cpu > DISTURBED * self.seconds * (os.cpu_count() or 1)


def measure(command: Sequence[str], environment: Mapping[str, str], server: int | None = None) -> Cost:
    """Run the command from the project's folder; `server` is the process id of the database it reads."""
    whole = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        machine, database, own = _machine_cpu(), _tree_cpu(server), time.process_time()
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=whole, stdout=out, stderr=err, start_new_session=True)
        with _attended(process) as watch:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - started
        client, server_cpu = usage.ru_utime + usage.ru_stime, _tree_cpu(server) - database
        other = _machine_cpu() - machine - client - server_cpu - (time.process_time() - own)
        return Cost(
            seconds=round(seconds, 3),
            cpu=round(client, 2),
            server_cpu=round(server_cpu, 2),
            other_cpu=round(max(other, 0.0), 2),
            memory_mb=round(max(watch.peak_mb, usage.ru_maxrss / 1024), 1),
            error=_reason(process.returncode, _tail(err)) if process.returncode else None,
            output=_tail(out),
        )


@contextmanager
def _attended(process: subprocess.Popen[bytes]) -> Iterator[_MemoryWatch]:
    """Watch a process, which leads a group of its own; neither it nor a thread outlives a benchmark that is stopped."""
    watch = _MemoryWatch(process.pid)
    limit = threading.Timer(TIMEOUT_S, os.killpg, (process.pid, signal.SIGKILL))
    watch.start()
    limit.start()
    try:
        yield watch
    finally:
        limit.cancel()  # or else it would keep this process alive, and then hit whoever has the number by that time
        watch.stop()
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def quiet_machine() -> Iterator[None]:
    """Wait for the lock file that BENCH_LOCK names, where the machine is shared; others take it while they work."""
    path = os.environ.get("BENCH_LOCK")
    if not path:
        yield
        return
    with Path(path).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _MemoryWatch(threading.Thread):
    """Adds up the memory of a process and its descendants, 20 times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak_mb = pid, 0.0
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self.peak_mb = max(self.peak_mb, sum(_memory_mb(pid) for pid in _tree(self.pid)))

    def stop(self) -> None:
        """End sampling."""
        self._done.set()
        self.join()


def _tree(pid: int) -> Iterator[int]:
    """The process and its descendants, as far as they still live."""
    yield pid
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # the process has just ended
        return
    for thread in threads:
        for child in _read(thread / "children").split():
            yield from _tree(int(child))


def _memory_mb(pid: int) -> float:
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * PAGE_MB if fields else 0.0


def _tree_cpu(pid: int | None) -> float:
    """CPU seconds of a process, its descendants, and those of them that have ended."""
    return sum(_process_cpu(found) for found in _tree(pid)) if pid else 0.0


def _process_cpu(pid: int) -> float:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS if fields else 0.0


def _machine_cpu() -> float:
    """CPU seconds that all cores together were busy, or were taken away by the host."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, _read(Path("/proc/stat")).split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has just ended
        return ""


def _tail(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")[-4000:].strip()


def _reason(code: int, text: str) -> str:
    """The last line of what a process that failed has said, without this machine's folders."""
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "nothing on standard error")
    return f"exit {code}: {last.replace(str(ROOT), '.')[:300]}"
