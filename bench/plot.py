"""The plot of the readers: time, memory and the server's CPU side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.summary import Number, Results, good, peak, total, wall

PANELS: list[tuple[str, Number]] = [
    ("seconds", wall),
    ("server CPU, seconds", total("server_cpu")),
    ("peak memory, MB (log)", peak()),
]
ENGINES = {"postgres": "PostgreSQL", "mysql": "MariaDB"}
COLOURS = {"ours": "#1b6ca8", "limit": "#999999", "peer": "#d9a441"}


def readers(results: Results, path: Path) -> None:
    """One row of panels per database; bars are medians, lines reach from the best to the worst run."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bench"  # the same results give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(ENGINES), len(PANELS), figsize=(13, 8), squeeze=False)
    for row, (engine, title) in zip(axes, ENGINES.items(), strict=True):
        runs = {name: good(results.of("readers", engine, name)) for name in results.names("readers", engine)}
        names = sorted((name for name in runs if runs[name]), key=lambda name: -_middle(runs[name], wall))
        for axis, (label, number) in zip(row, PANELS, strict=True):
            _bars(axis, [runs[name] for name in names], number)
            axis.set_yticks(range(len(names)), names if axis is row[0] else [""] * len(names))
            axis.set_title(f"{title}: {label}", fontsize=10)
            if "log" in label and names:
                axis.set_xscale("log")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _bars(axis: Any, runs: list[list[dict[str, Any]]], number: Number) -> None:
    for position, done in enumerate(runs):
        values = [number(run) for run in done]
        axis.barh(position, _middle(done, number), color=COLOURS[done[0]["role"]])
        axis.plot([min(values), max(values)], [position, position], color="black", linewidth=1)


def _middle(runs: list[dict[str, Any]], number: Number) -> float:
    values = sorted(number(run) for run in runs)
    return values[len(values) // 2]
