"""Killed, or failing, at any of its durable steps, a run that is taken up again ends as if nothing had happened.

Some of the steps are tried, and all of them with EVERY_STEP=1 (`make soak`).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

from tests.integration import crashing
from tests.integration.crashing import Rows

RECOVERIES = ("retry", "next night", "cleared")
LEAST_STEPS = 80
EVERY_STEP = bool(os.environ.get("EVERY_STEP"))
ONE_AT_A_TIME = threading.Lock()
"""Starting a process asks for the exit codes of all others; of two threads that ask at once, one reads 255."""


@dataclass
class Rehearsal:
    """The first night, the second one undisturbed, and a parent that has imported everything."""

    folder: Path
    context: Any
    steps: list[str]
    old: Rows
    new: Rows

    def child(self, work: Any, folder: Path, *arguments: Any) -> int:
        """Run it in a process of its own; what it exited with."""
        process = self.context.Process(target=crashing.reporting, args=(work, folder, *arguments))
        with ONE_AT_A_TIME:
            process.start()
        wait([process.sentinel], 60)
        with ONE_AT_A_TIME:
            return int(process.exitcode if process.exitcode is not None else 99)

    def disturb(self, number: int, work: Any, exit_code: int) -> str | None:
        """One crash and its recovery; what went wrong."""
        folder = self.folder / f"{work.__name__}-{number}"
        shutil.copytree(self.folder / "base", folder)
        if (code := self.child(work, folder, number)) != exit_code:
            problem = f"the run ended with {code}"
        else:
            recovery = RECOVERIES[number % len(RECOVERIES)]
            arguments = (self.old, self.new, self.folder / "undisturbed", recovery)
            problem = f"{recovery}: " if self.child(crashing.checked, folder, *arguments) else ""
        if problem:
            return f"{number} ({self.steps[number]}): {problem} {folder.with_suffix('.log').read_text()[-3000:]}"
        shutil.rmtree(folder)
        return None


@pytest.fixture(scope="module")
def append(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    return rehearse(tmp_path_factory.mktemp("append"), "append")


@pytest.fixture(scope="module")
def merge(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    return rehearse(tmp_path_factory.mktemp("merge"), "merge")


def rehearse(folder: Path, load: str) -> Rehearsal:
    first = multiprocessing.get_context("spawn").Process(
        target=crashing.prepare_and_list_modules, args=(folder / "base", load)
    )
    first.start()
    first.join(120)
    assert first.exitcode == 0
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload((folder / "base" / "modules").read_text().split())
    shutil.copytree(folder / "base", folder / "undisturbed")
    made = Rehearsal(folder, context, [], crashing.seen(folder / "base"), Rows())
    assert made.child(crashing.second_night, folder / "undisturbed") == 0
    made.steps = json.loads((folder / "undisturbed" / "steps.json").read_text())
    made.new = crashing.seen(folder / "undisturbed")
    return made


def test_the_rehearsal_is_worth_it(append: Rehearsal) -> None:
    """Files of the older publication are rewritten and removed, and many steps can fail."""
    old, new = (crashing.published_bytes(append.folder / name) for name in ("base", "undisturbed"))
    assert {name for name in old if name not in new}
    assert {name for name in old if name in new and old[name] != new[name]}
    assert {name for name in old if name in new and old[name] == new[name]}
    assert append.old != append.new
    assert set(append.new.values()) == {1}, "a row is published twice"
    assert len(append.steps) >= LEAST_STEPS
    assert {"replace", "unlink", "rmdir", "mkdir", "write_table", "set", "write_text"} <= set(append.steps)


def test_the_rehearsal_of_a_merge_is_worth_it(merge: Rehearsal) -> None:
    """Marked rows stay but for the one that comes back, updates replace rows, and bad rows are set aside."""
    marked = [{int(row[1]) for row in rows if row[-1] != "None"} for rows in (merge.old, merge.new)]
    assert marked == [set(crashing.GONE), set(crashing.GONE) - {crashing.BACK}]
    assert len(merge.new) == len({row[:2] for row in merge.new}), "a key is published twice"
    assert crashing.set_aside(merge.folder / "undisturbed") == set(crashing.BAD)
    assert len(merge.steps) >= LEAST_STEPS


@pytest.mark.parametrize(
    ("load", "work", "exit_code", "every"),
    [
        ("append", crashing.killed_at, -9, 2),
        ("append", crashing.failing_at, 0, 10),
        ("merge", crashing.killed_at, -9, 24),
    ],
)
def test_disturbed_at_any_step_it_ends_right(
    request: pytest.FixtureRequest, load: str, work: Any, exit_code: int, every: int
) -> None:
    rehearsal: Rehearsal = request.getfixturevalue(load)
    numbers = range(0, len(rehearsal.steps), 1 if EVERY_STEP else every)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda number: rehearsal.disturb(number, work, exit_code), numbers))
    problems = [problem for problem in found if problem]
    assert not problems, f"{len(problems)} of {len(found)}:\n" + "\n".join(problems)
