"""The changes of one publication, written down before the first of them is made.

Renames and removals of many files cannot be one step. So they are listed first; whoever publishes next for the source,
holding its lock, finishes a list that was left behind. Until the list is there nothing has changed, and from then on
the publication is certain.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from include.etl.errors import StorageError
from include.etl.handover import Handover
from include.etl.records.manifest import RECOVER
from include.etl.records.set_aside import adopt
from include.etl.storage import publish, read_json, remove_folder, sync_folder, write_json

NAME = "journal.json"


class Journal(Handover):
    """What is to be done, in this order: new rows and their manifest appear before old copies go.

    Who looks at the folder in between finds rows twice, but misses none; `standing` shows it as it is before or after.
    """

    renames: dict[str, str] = Field(description="Path below staging, which ends in the other -> path when published.")
    manifests: dict[str, dict[str, Any] | None] = Field(description="Path -> content; None: the manifest goes.")
    rewrites: dict[str, str] = Field(default_factory=dict, description="As renames: other publications' files.")
    removals: list[str]
    set_aside: str = Field(default="", description="Below the data folder: where the run has set rows aside.")


def write(staging: Path, journal: Journal) -> None:
    """Make the publication certain."""
    write_json(staging / NAME, journal.model_dump(mode="json"))


def finish(staging: Path, folder: Path) -> None:
    """Make the listed changes that are not made yet, and clear the staging folder; without a list only clear it."""
    if (found := pending(staging)) is not None:
        _apply(found, staging, folder)
        if found.set_aside:
            adopt(staging.parents[1] / found.set_aside)
    discard(staging)


def discard(staging: Path) -> None:
    """Clear the staging folder, the list first: a list whose files are half gone could not be finished."""
    _remove(staging / NAME)
    remove_folder(staging)


def pending(staging: Path) -> Journal | None:
    """The list of a publication that is certain but not finished; None where there is none."""
    path = staging / NAME
    if not path.exists():
        return None
    try:
        return Journal.model_validate(read_json(path))
    except ValidationError:
        raise StorageError(f"file {path} is damaged; the publication it belongs to cannot be finished") from None


def _apply(journal: Journal, staging: Path, folder: Path) -> None:
    _rename(journal.renames, staging, folder)
    for name, content in journal.manifests.items():
        if content is None:
            _remove(folder / name)
        else:
            write_json(folder / name, content)
    _rename(journal.rewrites, staging, folder)
    for removed in journal.removals:
        _remove(folder / removed)


def _rename(renames: dict[str, str], staging: Path, folder: Path) -> None:
    for staged, final in renames.items():
        if (staging / staged).exists():
            publish(staging / staged, folder / final)
        elif not (folder / final).exists():
            raise StorageError(
                f"file {staging / staged}, which {staging / NAME} lists, is gone and was not published; "
                f"remove {staging}, then {RECOVER}"
            )


def _remove(path: Path) -> None:
    """Remove a file, and its Hive folder if that is empty then."""
    if not path.parent.exists():
        return
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
        if "=" in path.parent.name and not any(path.parent.iterdir()):
            path.parent.rmdir()
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error
