"""What stands published, as it was at one moment: also while a publication is made, and after one that was killed.

A publication renames many files, one after the other. From the moment its journal is written it counts, whatever of it
is done: what is not in its place yet is looked up in the staging folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from include.etl.publication import journal
from include.etl.records import manifest
from include.etl.records.manifest import Manifest, PublishedFile
from include.etl.storage import Storage


@dataclass(frozen=True)
class Standing:
    """The publications of a source, oldest window first, and where each of their files lies."""

    manifests: list[Manifest]
    folder: Path
    staged: dict[str, Path] = field(default_factory=dict)
    """Path of a file -> the folder it is moved from, with the same path below."""

    def folder_of(self, file: PublishedFile) -> Path:
        """The folder below which the file lies under its path now."""
        staged = self.staged.get(file.path)
        return staged if staged and (staged / file.path).exists() else self.folder


def look(storage: Storage, source: str) -> Standing:
    """What stands; the files may be replaced or removed as soon as this has returned, see `held`."""
    folder, staging = manifest.published_folder(storage, source), storage.root / "staging" / source
    found = {manifest.path_of(one.window): one for one in manifest.current(storage, source)}
    certain = journal.pending(staging)
    if certain is None:
        return Standing(list(found.values()), folder)
    for name, content in certain.manifests.items():
        found.pop(name, None)
        if content is not None:
            found[name] = Manifest.model_validate(content)
    moves = certain.renames | certain.rewrites
    staged = {final: staging / path.removesuffix(f"/{final}") for path, final in moves.items()}
    return Standing([found[name] for name in sorted(found)], folder, staged)


@contextmanager
def held(storage: Storage, source: str, reader: str) -> Iterator[Standing]:
    """The same, and nothing is published meanwhile: keep it short.

    Raises:
        TransientError: a publication did not end in time.
    """
    with storage.lock(source, reader, shared=True):
        yield look(storage, source)


def of_run(storage: Storage, source: str, dag_id: str, run_id: str) -> Manifest | None:
    """What an earlier try of the same run published, if it got that far."""
    with held(storage, source, f"plan of run {run_id}") as found:
        return next((one for one in found.manifests if (one.dag_id, one.run_id) == (dag_id, run_id)), None)
