"""The results file: one JSON line per run, appended as it ends, so that a killed benchmark loses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]
KEY = ("experiment", "engine", "name", "round")


@dataclass(frozen=True)
class Records:
    """The file of results."""

    path: Path

    def append(self, record: Record) -> None:
        """Keep a record."""
        with self.path.open("a") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def all(self) -> Iterator[Record]:
        """Everything kept so far, of several tries of a run the last one."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        yield from {tuple(record[key] for key in KEY): record for record in map(json.loads, lines)}.values()

    def of(self, experiment: str) -> list[Record]:
        """The records of one experiment."""
        return [record for record in self.all() if record["experiment"] == experiment]

    def has(self, wanted: Record) -> bool:
        """Whether this run is there already."""
        return any(all(record[key] == wanted[key] for key in KEY) for record in self.all())

    def forget(self, experiment: str, engine: str, only: str | None = None) -> None:
        """Drop the records of an experiment that is done anew, or those of one name in it."""

        def old(record: Record) -> bool:
            same = (record["experiment"], record["engine"]) == (experiment, engine)
            return same and only in (None, record["name"])

        kept = [json.dumps(record, ensure_ascii=False) + "\n" for record in self.all() if not old(record)]
        self.path.write_text("".join(kept))
