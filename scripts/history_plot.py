"""Draws runs: a line of bars for a terminal, and an SVG that any browser shows. Needs no package."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from include.etl.records.history import GOOD, RunSummary

BARS = "▁▂▃▄▅▆▇█"
WIDTH, HEIGHT, LEFT, TOP = 900, 150, 90, 60
FINE, BAD = "#2f6f9f", "#c0392b"


def sparkline(values: Sequence[float]) -> str:
    """The values as bars between nothing and the largest one."""
    most = max(values, default=0)
    return "".join(BARS[round(value / most * (len(BARS) - 1)) if most else 0] for value in values)


def plot(source: str, runs: Sequence[RunSummary]) -> str:
    """An SVG with two panels, rows and duration: a bar per run, red if it did not end well."""
    panels = [
        _panel("rows", [run.rows for run in runs], runs, TOP),
        _panel("seconds", [run.seconds for run in runs], runs, TOP + HEIGHT + 60),
    ]
    height = TOP + 2 * (HEIGHT + 60)
    span = f"{runs[0].started_at} to {runs[-1].started_at}" if runs else "no run yet"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13"><rect width="{WIDTH}" height="{height}" fill="white"/>'
        f'<text x="20" y="28" font-size="17">{escape(source)}: {len(runs)} runs, {escape(span)}</text>'
        f"{''.join(panels)}</svg>\n"
    )


def _panel(title: str, values: Sequence[float], runs: Sequence[RunSummary], top: int) -> str:
    most, step = max(values, default=0) or 1, (WIDTH - LEFT - 20) / max(len(values), 1)
    bars = "".join(
        _bar(LEFT + number * step, top, step, value / most, f"{run.started_at} {run.status}: {value:,} {title}", run)
        for number, (value, run) in enumerate(zip(values, runs, strict=True))
    )
    axis = f'<path d="M{LEFT} {top}V{top + HEIGHT}H{WIDTH - 20}" fill="none" stroke="#777"/>'
    labels = (
        f'<text x="{LEFT}" y="{top - 8}">{title}</text>'
        f'<text x="{LEFT - 8}" y="{top + 12}" text-anchor="end">{most:,.6g}</text>'
        f'<text x="{LEFT - 8}" y="{top + HEIGHT}" text-anchor="end">0</text>'
    )
    return axis + labels + bars


def _bar(left: float, top: int, step: float, share: float, told: str, run: RunSummary) -> str:
    size = max(share * HEIGHT, 1)
    colour = FINE if run.status in (*GOOD, "running") else BAD
    return (
        f'<rect x="{left:.1f}" y="{top + HEIGHT - size:.1f}" width="{max(step * 0.8, 0.5):.1f}" height="{size:.1f}" '
        f'fill="{colour}"><title>{escape(told)}</title></rect>'
    )
