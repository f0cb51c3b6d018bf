"""What a power cut would leave, modelled: only what was flushed (`fsync`) before, contents and names separately."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import VISITS, Memory, Project


class Disk:
    """Knows of each file whether its content is on the disk, and of each folder which names in it are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.contents: set[int] = set()
        self.names: dict[Path, set[str]] = {}

    def flushed(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir():
            self.names[path] = {inside.name for inside in path.iterdir()}
        else:
            self.contents.add(path.stat().st_ino)

    def holds(self, path: Path) -> bool:
        """Whether the file would be there after a power cut, whole and under this name."""
        steps = [path, *(parent for parent in path.parents if parent.is_relative_to(self.root))]
        named = all(step.name in self.names.get(step.parent, ()) for step in steps)
        return named and path.stat().st_ino in self.contents

    def lost(self, files: list[Path]) -> list[Path]:
        return [path for path in files if not self.holds(path)]


class Watched(Disk):
    """Notes what would be lost at each step that makes a publication count, and the order of these steps."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.steps: list[str] = []
        self.would_lose: list[tuple[str, Path]] = []

    def replaced(self, final: Path) -> None:
        """Called before the file gets its name."""
        if final.name == "journal.json":
            self._counts("journal", [path for path in final.parent.rglob("*") if path.name.endswith("-0.parquet")])
        elif final.parent.name == "_manifests":
            content = json.loads(final.with_name(f".{final.name}.tmp").read_text())
            self._counts("manifest", [final.parent.parent / file["path"] for file in content["files"]])

    def checkpoint_moves(self) -> None:
        self._counts("checkpoint", list((self.root / "processed" / "visits").rglob("[!.]*.*")))

    def _counts(self, step: str, needs: list[Path]) -> None:
        assert needs
        self.steps.append(step)
        self.would_lose += [(step, path) for path in self.lost(needs)]


@pytest.fixture
def watched(project: Project, monkeypatch: pytest.MonkeyPatch) -> Watched:
    disk = Watched(project.folder / "data")
    fsync, replace, remember = os.fsync, os.replace, Memory.set

    def flush(handle: int) -> None:
        fsync(handle)
        disk.flushed(handle)

    def rename(old: Any, new: Any, **options: Any) -> None:
        disk.replaced(Path(new))
        replace(old, new, **options)

    def move(memory: Memory, key: str, value: str, description: str) -> None:
        disk.checkpoint_moves()
        remember(memory, key, value, description)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    monkeypatch.setattr(Memory, "set", move)
    return disk


def test_nothing_counts_before_what_it_needs_is_on_the_disk(project: Project, watched: Watched) -> None:
    """Two publications: folders that are new, and then files of the first that are rewritten."""
    project.configure(VISITS + "load: merge\n")
    rows = [(n, f"2024-01-0{1 + n % 3}", "1.00", "fine", "2024-01-01 08:00:00") for n in range(9)]
    project.execute("INSERT INTO visits VALUES (?, ?, ?, ?, ?)", rows)
    project.run(mode="range", start="2024-01-01", end="2024-01-02")
    assert watched.steps == ["journal", "manifest"]
    project.execute("DELETE FROM visits WHERE visit_id > 3")
    project.run()
    assert watched.steps[2:] == ["journal", "manifest", "manifest", "checkpoint"]
    assert not watched.would_lose


def test_rows_that_are_set_aside_are_on_the_disk(project: Project, watched: Watched) -> None:
    (project.folder / "expectations").mkdir()
    bad = {"type": "expect_column_values_to_not_be_in_set", "kwargs": {"column": "note", "value_set": ["bad"]}}
    (project.folder / "expectations" / "visits.json").write_text(json.dumps({"name": "visits", "expectations": [bad]}))
    project.configure(VISITS + "validation: {on_failure: quarantine, max_rejected: 100%}\n")
    project.execute("INSERT INTO visits VALUES (1, '2024-01-01', '1.00', 'bad', '2024-01-01 08:00:00')")
    project.run()
    files = [path for path in (project.folder / "data" / "quarantine").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"rows.parquet", "quarantine.json"}
    assert watched.lost(files) == []
