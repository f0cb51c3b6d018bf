"""Folders of what runs have set aside: written beside an earlier try's copy, which stands until this try is published.

data/quarantine/<source>/<run key>/rows.parquet, quarantine.json          what is not in the publication that stands
data/quarantine/<source>/<run key>/next/                                  the same of the try that is under way
"""

from __future__ import annotations

from pathlib import Path

from include.etl.errors import StorageError
from include.etl.storage import Storage, make_folder, plain_name, publish, remove_folder

ROWS, RECORD = "rows.parquet", "quarantine.json"
DECISIONS = "decisions.jsonl"
"""What people have decided about a source's rows, beside its runs' folders."""
NEXT, NOTHING = "next", "nothing"
ROW, REASONS = "_etl_row", "_etl_reasons"
"""Columns beside those of the source: a row's place in the raw parts, and what it breaks."""


def folder_of(storage: Storage, source: str, run_key: str) -> Path:
    """The folder of a run."""
    return storage.root / "quarantine" / plain_name(source) / plain_name(run_key)


def nothing(folder: Path) -> None:
    """Say that a try sets nothing aside: what an earlier one has goes when this one is published."""
    remove_folder(folder / NEXT)
    if folder.exists():
        private(folder)
        (folder / NEXT / NOTHING).touch()


def of_this_try(folder: Path) -> Path:
    """The rows that this try leaves out; there may be none. Once it is published they lie with the record."""
    return (folder / NEXT if (folder / NEXT).exists() else folder) / ROWS


def adopt(folder: Path) -> None:
    """The try is published: its copy replaces the earlier one. Killed in the middle, it can be done again."""
    beside = folder / NEXT
    if (beside / NOTHING).exists():
        (folder / RECORD).unlink(missing_ok=True)
        remove_folder(folder)
        return
    for name in (ROWS, RECORD):
        if (beside / name).exists():
            publish(beside / name, folder / name)
    remove_folder(beside)


def private(folder: Path) -> None:
    """Make the folder of a run and the one beside; they and the two above them are for the owner alone."""
    try:
        for path in (folder.parents[1], folder.parent, folder, folder / NEXT):
            make_folder(path)
            path.chmod(0o700)
    except OSError as error:
        raise StorageError(f"folder {folder}: {error.strerror}") from error
