"""Power cuts on a real file system: an ext4 in a file, of which a copy is taken before every step of two publications.

A copy is what the disk held at that moment. The file system commits nothing by itself for an hour, so that names and
contents that nobody has flushed are lost, as they may be in the worst case. Every eighth copy is gone on from, and all
of them with EVERY_STEP=1 (`make soak`).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from include.etl.records import audit_check, manifest
from include.etl.storage import Storage, sha256
from tests.integration.conftest import VISITS, Memory, Project

EVERY_STEP = bool(os.environ.get("EVERY_STEP"))
NO_DISK = "A POWER CUT IS NOT TESTED on a real file system: it takes root and loop devices (mount -o loop)"
INSERT = "INSERT INTO visits VALUES (?, ?, ?, ?, ?)"
OPTIONS = "loop,commit=3600,noauto_da_alloc"


def command(*words: Any) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    command("mount", "-o", OPTIONS, image, folder)
    try:
        yield
    finally:
        command("umount", "-l", folder)  # at once, even if a test that fails still holds a file


@dataclass(frozen=True)
class Cut:
    """A copy of the disk, what was about to happen, and the checkpoints at that moment, which lie elsewhere."""

    image: Path
    before: str
    variables: dict[str, str]
    content: str


@dataclass
class Disk:
    """A disk in a file, and what it held when."""

    image: Path
    cuts: list[Cut] = field(default_factory=list)

    def cut(self, before: str, variables: dict[str, str]) -> None:
        """Keep what is on the disk, unless that was kept already."""
        copy = self.image.with_name(f"cut-{len(self.cuts):03}.img")
        command("cp", "--sparse=always", self.image, copy)  # over a copy that was not needed
        content = hashlib.sha256(copy.read_bytes()).hexdigest()
        if not any((content, variables) == (cut.content, cut.variables) for cut in self.cuts):
            self.cuts.append(Cut(copy, f"{before} ({len(self.cuts)})", dict(variables), content))


@pytest.fixture
def disk(project: Project, tmp_path: Path) -> Iterator[Disk]:
    image = tmp_path / "disk.img"
    with image.open("xb") as file:
        file.truncate(24 << 20)
    with ExitStack() as stack:
        try:
            command("mkfs.ext4", "-q", "-E", "lazy_itable_init=0", image)
            stack.enter_context(mounted(image, project.folder / "data"))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"{NO_DISK}: {getattr(error, 'stderr', error)!r}")
        yield Disk(image)


def cut_at_every_step(disk: Disk, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each change of a name, and around the move of the checkpoint."""

    def watch(target: Any, name: str, described: Callable[..., str]) -> None:
        original = getattr(target, name)

        def step(*args: Any, **options: Any) -> Any:
            disk.cut(described(*args), project.variables)
            return original(*args, **options)

        monkeypatch.setattr(target, name, step)

    watch(os, "replace", lambda old, new, *_: f"rename to {Path(new).name}")
    watch(os, "unlink", lambda path, *_: f"removal of {Path(path).name}")
    watch(os, "rmdir", lambda path, *_: f"removal of {Path(path).name}")
    watch(Memory, "set", lambda *_: "checkpoint")
    watch(Memory, "get", lambda *_: "look at the checkpoint")


def rows(numbers: Iterable[int], note: str, ago: timedelta) -> list[tuple[Any, ...]]:
    at = (datetime.now(UTC) - ago).strftime("%Y-%m-%d %H:%M:%S")
    return [(number, f"2024-01-0{1 + number % 3}", "1.00", note, at) for number in numbers]


NOW = {*((number, "first") for number in range(7)), *((number, "second") for number in (7, 8, 9))}
REPLACED = {(7, "first"), (8, "first")}


def publish_twice(project: Project, disk: Disk, load: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project.configure(f"{VISITS}load: {load}\n")
    with monkeypatch.context() as patch:
        cut_at_every_step(disk, project, patch)
        project.execute(INSERT, rows(range(9), "first", timedelta(hours=2)))
        project.run()
        project.execute("DELETE FROM visits WHERE visit_id > 6")
        project.execute(INSERT, rows((7, 8, 9), "second", timedelta(minutes=30)))  # within the lookback
        project.run()


def run_after(cut: Cut, project: Project, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """What is published by the first run on what the cut has left."""
    project.variables.clear()
    project.variables.update(cut.variables)
    folder = cut.image.with_suffix("")
    with mounted(cut.image, folder):
        monkeypatch.setenv("ETL_DATA_URI", str(folder))
        project.run()
        return published(Storage(folder))


@pytest.mark.parametrize(("load", "first"), [("append", 0), ("merge", 4)])
def test_whatever_a_power_cut_leaves_the_next_run_completes(
    project: Project, disk: Disk, load: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_twice(project, disk, load, monkeypatch)
    assert len(disk.cuts) > 30, "too few moments to say anything"
    for cut in disk.cuts[0 if EVERY_STEP else first :: 1 if EVERY_STEP else 8]:
        found = run_after(cut, project, monkeypatch)
        assert len(found) == len(set(found)), f"twice, after a cut before {cut.before}"
        assert set(found) >= NOW, f"lost, after a cut before {cut.before}"
        older = set(found) - NOW
        assert older in ((set(), REPLACED) if load == "append" else (set(),)), cut.before
        if load == "append" and cut.variables:
            assert older == REPLACED, f"lost, after a cut before {cut.before}"


def test_without_flushes_rows_are_lost(project: Project, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else the test above would prove nothing."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        publish_twice(project, disk, "append", monkeypatch)
    assert not all(set(run_after(cut, project, monkeypatch)) >= NOW for cut in disk.cuts)


def published(storage: Storage) -> list[tuple[int, str]]:
    """What the manifests list, each file whole; nothing else lies there, and the audit is in order."""
    folder, found = manifest.published_folder(storage, "visits"), []
    listed = [file for one in manifest.current(storage, "visits") for file in one.files]
    for file in listed:
        assert sha256(folder / file.path) == file.sha256
        found += [(row["visit_id"], row["note"]) for row in pq.read_table(folder / file.path).to_pylist()]
    assert {folder / file.path for file in listed} == set(folder.rglob("*.parquet"))
    assert not any(storage.root.glob("staging/*/*"))
    assert audit_check.check(storage).problems == []
    return found
