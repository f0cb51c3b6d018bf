"""What a recovery is to do, who asked for it, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from include.etl.records import audit
from include.etl.recovery.backup import Backup
from include.etl.storage import Storage

NUMBER = r"-?\d{1,38}"
"""How a number of a cursor is written."""


@dataclass(frozen=True)
class Asked:
    """The parameters of the DAG and of the command line."""

    stamp: str
    reason: str
    backup: Backup | None = None
    start: str | None = None
    end: str | None = None
    by: str = ""
    replace: bool = False
    """What has to be read in full replaces all that is published: rows that have left the source go."""

    def record(self, storage: Storage, action: str, source: str, **facts: Any) -> None:
        """Add a line to the audit in the name of who asked, not of the worker's user."""
        audit.record(storage, action, source, self.reason, who=self.by, **facts)
