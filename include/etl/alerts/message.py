"""What an alert says, in one wording for all channels: a title, paragraphs, facts; and these as text and as HTML."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import jinja2

from include.etl.alerts import CONDITIONS
from include.etl.alerts.base import Alert, Finding

TEMPLATE = Path(__file__).with_name("message.html.j2")
MOST_DETAILS, LONGEST_DETAIL = 12, 600
"""A message is read on a phone at night; the rest is in the report."""
MARKS = {"critical": "FAILED", "warning": "WARNING", "good": "OK"}


def title(alert: Alert) -> str:
    """A line that says it all: how bad, which source, what."""
    more = f" (+{len(alert.findings) - 1} more)" if len(alert.findings) > 1 else ""
    name = alert.worst.conditions[0]
    mark = "LATE" if name == "late_data" else MARKS[alert.worst.severity]
    return f"[{mark}] {alert.source}: {CONDITIONS[name].lower()}{more}"


def paragraphs(alert: Alert) -> list[tuple[str, list[str]]]:
    """Each finding: a heading, and lines that say how bad it is, since when, what to do."""
    ordered = sorted(alert.findings, key=lambda finding: finding is not alert.worst)
    return [(f"{CONDITIONS[one.conditions[0]]}: {one.what}", _lines(one, alert.zone)) for one in ordered]


def _lines(finding: Finding, zone: ZoneInfo) -> list[str]:
    shown = [f"- {detail[:LONGEST_DETAIL]}" for detail in finding.details[:MOST_DETAILS]]
    if len(finding.details) > MOST_DETAILS:
        shown.append(f"- and {len(finding.details) - MOST_DETAILS} more")
    since = [f"Since: {_moment(finding.since, zone)}"] if finding.since else []
    return [*shown, *since, *([f"What to do: {finding.to_do}"] if finding.to_do else [])]


def facts(alert: Alert) -> list[tuple[str, str]]:
    """Where it happened."""
    found = [("Source", f"{alert.source}, {alert.description}" if alert.description else alert.source)]
    found += [("DAG", alert.dag_id)] if alert.dag_id else []
    found += [("Run", alert.run_id)] if alert.run_id else []
    return [*found, ("Time", _moment(alert.at, alert.zone)), ("Contact", alert.contact or "not given")]


def text(alert: Alert) -> str:
    """Everything below the title as plain text."""
    told = [line for heading, lines in paragraphs(alert) for line in (heading, *lines, "")]
    told += [f"{name}: {value}" for name, value in facts(alert)]
    return "\n".join([*told, *(f"{name}: {url}" for name, url in alert.links.items())])


def html(alert: Alert) -> str:
    """A mail: styles are in the elements, since mail programs drop all others."""
    return _template().render(
        title=title(alert), alert=alert, paragraphs=paragraphs(alert), facts=facts(alert), tone=alert.worst.severity
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _moment(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M} ({zone.key})"
