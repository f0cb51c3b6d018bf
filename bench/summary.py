"""Medians, spreads and verdicts from the records; no text of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from bench.records import Record, Records

Number = Callable[[Record], float]


def good(records: Iterable[Record]) -> list[Record]:
    """Those that ended well."""
    return [record for record in records if not record["error"]]


def wall(record: Record) -> float:
    """Seconds of the whole run, with the start of its processes."""
    return float(record["seconds"])


def inside(record: Record) -> float:
    """Seconds of the work itself, without the start of Python and imports."""
    return float(record["inside_seconds"] if "inside_seconds" in record else record["seconds"])


def total(key: str) -> Number:
    """The sum over a run's steps."""
    return lambda record: sum(float(step[key]) for step in record["steps"].values())


def of_steps(key: str, *names: str) -> Number:
    """The sum over these steps."""
    return lambda record: sum(float(record["steps"][name][key]) for name in names)


def peak(*names: str) -> Number:
    """Peak memory, of all steps or of these, in MB."""
    return lambda record: max(
        float(step["memory_mb"]) for name, step in record["steps"].items() if not names or name in names
    )


class Results:
    """Questions to the records."""

    def __init__(self, records: Records) -> None:
        self.records = list(records.all())

    def of(self, experiment: str, engine: str | None = None, name: str | None = None) -> list[Record]:
        """The records of an experiment, an engine, a contender."""
        return [
            record
            for record in self.records
            if record["experiment"] == experiment
            and engine in (None, record["engine"])
            and name in (None, record["name"])
        ]

    def names(self, experiment: str, engine: str) -> list[str]:
        """Who took part, in the order of their first run."""
        return list(dict.fromkeys(record["name"] for record in self.of(experiment, engine)))

    def median(self, number: Number, experiment: str, engine: str, name: str) -> float | None:
        """The median over good runs, or None without any."""
        values = [number(record) for record in good(self.of(experiment, engine, name))]
        return median(values) if values else None

    def changes(self, engine: str, name: str, *, probes: bool = True) -> list[str]:
        """What this reader does not keep exact: types of lineitem, and the probes that came back as something else."""
        found = []
        runs = good(self.of("readers", engine, name))
        if runs and not all(run.get("same_values", True) for run in runs):
            found.append("lineitem: other values")
        kinds: dict[str, int] = {}
        for kind in runs[-1].get("other_types", {}).values() if runs else []:
            kinds[kind] = kinds.get(kind, 0) + 1
        found += [f"lineitem: {count} columns as {kind}" for kind, count in kinds.items()]
        for record in self.of("types", engine, name) if probes else []:
            wrong = {label: value for label, value in record["probes"].items() if value not in ("exact", "refused")}
            found += [f"{label}: {value}" for label, value in wrong.items()]
        return found

    def refusals(self, engine: str, name: str) -> list[str]:
        """Probes that this reader would not read at all."""
        probes: dict[str, Any] = next((record["probes"] for record in self.of("types", engine, name)), {})
        return [label for label, value in probes.items() if value == "refused"]
