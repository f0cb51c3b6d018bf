import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.lifeline import Lifeline, end, members
from scripts.local_airflow import ROOT

# A process that has a child of its own in another process group, and says so once both are there.
FAMILY = """
import os, signal, subprocess, sys, time
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if {stubborn} else lambda *_: (child.kill(), sys.exit(0)))
print("ready", flush=True)
time.sleep(600)
"""


def eventually(reached: Callable[[], bool], timeout_s: float = 15) -> bool:
    deadline = time.monotonic() + timeout_s
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.02)
    return reached()


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    with (tmp_path / "lock").open("w") as handle:
        yield handle.fileno()


def start(lifeline: Lifeline, log: Path, *, stubborn: bool = False) -> int:
    lifeline.start("family", [sys.executable, "-c", FAMILY.format(stubborn=stubborn)], os.environ, log)
    assert eventually(lambda: "ready" in log.read_text())
    return lifeline.processes["family"].pid


def test_stop_ends_a_process_and_its_children(tmp_path: Path, lock: int) -> None:
    lifeline = Lifeline(lock)
    leader = start(lifeline, tmp_path / "log")
    assert len(members({leader})) == 2
    assert lifeline.ended() is None
    lifeline.stop()
    assert members({leader}) == []
    assert lifeline.ended() == "family"


def test_a_process_that_does_not_listen_is_killed_with_its_children(tmp_path: Path, lock: int) -> None:
    lifeline = Lifeline(lock)
    leader = start(lifeline, tmp_path / "log", stubborn=True)
    end({leader}, grace_s=0.3)
    assert members({leader}) == []
    lifeline.stop()


def test_nothing_is_left_when_the_starter_is_killed(tmp_path: Path) -> None:
    script = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from scripts.lifeline import Lifeline
folder = Path({str(tmp_path)!r})
lifeline = Lifeline(os.open(folder / "lock", os.O_CREAT | os.O_WRONLY))
lifeline.start("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], os.environ, folder / "log")
print(lifeline.processes["sleeper"].pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        session = int(starter.stdout.readline())
        assert members({session}) == [session]
        starter.send_signal(signal.SIGKILL)
    assert eventually(lambda: members({session}) == [])
