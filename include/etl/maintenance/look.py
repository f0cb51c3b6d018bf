"""What maintenance goes by: where to look, by which rules, and at which moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from include.etl.maintenance.policy import Policy
from include.etl.storage import Storage

Kind = Literal[
    "raw",
    "interim",
    "processed",
    "quarantine",
    "reports",
    "runs",
    "checkpoints",
    "logs",
    "history",
    "staging",
    "temporary",
    "backups",
]


@dataclass(frozen=True)
class Look:
    """Where to look, by which rules, and at which moment."""

    storage: Storage
    policy: Policy
    now: datetime

    def due(self, kind: Kind, newest: datetime) -> bool:
        """Whether something of this kind, last changed then, is old enough."""
        keep = getattr(self.policy.keep, kind, self.policy.longest_run)
        return keep is not None and self.now - newest > max(keep, self.policy.longest_run)


def changed(path: Path) -> datetime:
    """When a file or folder was last written to."""
    return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
