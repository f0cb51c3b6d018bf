"""What an alert says, and what a channel does with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

Severity = Literal["critical", "warning", "good"]
_WORST_FIRST: tuple[Severity, ...] = ("critical", "warning", "good")
UTC = ZoneInfo("UTC")
TIMEOUT_S = 10
"""How long a channel waits for its server. Callbacks of a DAG run in the DAG processor, which must not be held up."""


@dataclass(frozen=True)
class Finding:
    """One thing to tell. It never holds row values, keys or secrets."""

    conditions: tuple[str, ...]
    """Names of CONDITIONS that it answers to, the most specific one first."""
    severity: Severity
    what: str
    details: tuple[str, ...] = ()
    """How bad it is: counts, columns, messages of errors."""
    since: datetime | None = None
    to_do: str = ""


@dataclass(frozen=True)
class Alert:
    """All that there is to tell of one run (or of one that never started), as one message."""

    source: str
    at: datetime
    findings: tuple[Finding, ...]
    zone: ZoneInfo = UTC
    description: str = ""
    contact: str = ""
    dag_id: str = ""
    run_id: str = ""
    """Empty where there is no run."""
    links: dict[str, str] = field(default_factory=dict)
    """What it leads to -> address."""

    @property
    def worst(self) -> Finding:
        """The finding that names the message."""
        return min(self.findings, key=lambda finding: _WORST_FIRST.index(finding.severity))

    def only(self, findings: list[Finding]) -> Alert:
        """The same, telling these findings alone."""
        return replace(self, findings=tuple(findings))


class Channel(Protocol):
    """Takes an alert to people."""

    def send(self, alert: Alert) -> None:
        """Send it and return when it has been taken; any exception means that nobody will see it."""
