"""Log files beside the data, a line of JSON each: `data/logs/extraction-<day>.jsonl` and `errors-<day>.jsonl`.

A new file a day, and each line in one write at the file's end: several processes share a file without a lock. Airflow's
own task logs stay as they are. The third audience has the audit.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from include.etl.errors import ExtractionError, StorageError
from include.etl.handover import Metrics
from include.etl.storage import FILE_MODE, Storage

Audience = Literal["extraction", "errors"]


@contextmanager
def kept(storage: Storage, about: dict[str, str]) -> Iterator[None]:
    """Keep the warnings and errors that this system logs meanwhile; `about` says of which run and phase they are."""
    handler, logger = _Handler(storage, about), logging.getLogger("etl")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def phase_ended(storage: Storage, about: dict[str, str], metrics: Metrics, error: BaseException | None) -> None:
    """A line about a phase: what it did and cost; one for errors too, where it failed."""
    result = {"result": "failed" if error else "done", **metrics.model_dump(exclude={"phase"})}
    write(storage, "extraction", about | result)
    if error is not None:
        # Only messages of our own are known to hold no row values.
        message = str(error) if isinstance(error, ExtractionError) else ""
        write(storage, "errors", about | {"error": type(error).__name__, "message": message})


def write(storage: Storage, audience: Audience, content: dict[str, Any]) -> None:
    """Add a line, in one write.

    Raises:
        StorageError: it could not be written.
    """
    now = datetime.now(UTC)
    line = json.dumps({"at": now.isoformat(), **content}, ensure_ascii=False, default=str) + "\n"
    path = storage.folder("logs") / f"{audience}-{now:%Y-%m-%d}.jsonl"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
        try:
            os.fchmod(handle, FILE_MODE)
            os.write(handle, line.encode())
        finally:
            os.close(handle)
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error


class _Handler(logging.Handler):
    """Warnings go to those who watch extractions, errors to those who mend them too."""

    def __init__(self, storage: Storage, about: dict[str, str]) -> None:
        super().__init__(logging.WARNING)
        self.storage, self.about = storage, about

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line; a disk that is full must not stop what is logged about."""
        try:
            line = self.about | {"level": record.levelname, "logger": record.name, "message": record.getMessage()}
            write(self.storage, "extraction", line)
            if record.levelno >= logging.ERROR:
                write(self.storage, "errors", line)
        except (OSError, StorageError):
            self.handleError(record)
