"""Microsoft Teams: an adaptive card, posted to the webhook of a workflow."""

from __future__ import annotations

from typing import Any

import httpx
from airflow.sdk import Connection

from include.etl.alerts.base import TIMEOUT_S, Alert
from include.etl.alerts.message import facts, paragraphs, title
from include.etl.config_alerts import ChannelSettings
from include.etl.errors import ConfigurationError, TransientError

COLOURS = {"critical": "Attention", "warning": "Warning", "good": "Good"}


class TeamsChannel:
    """The address of the workflow is a secret: it is the connection's password."""

    def __init__(self, settings: ChannelSettings) -> None:
        self.settings = settings

    def send(self, alert: Alert) -> None:
        """Post it; the workflow answers 202."""
        url = Connection.get(self.settings.conn_id).password or ""
        if not url.startswith(("https://", "http://")):
            raise ConfigurationError(
                f"connection {self.settings.conn_id!r}: its password is not the workflow's address"
            )
        answer = httpx.post(url, json=teams_body(alert), timeout=TIMEOUT_S)
        if not answer.is_success:
            raise TransientError(f"the workflow answered HTTP {answer.status_code}")


def teams_body(alert: Alert) -> dict[str, Any]:
    """The JSON that the workflow is sent. Texts are text runs, in which Teams sees no markdown."""
    colour = COLOURS[alert.worst.severity]
    body: list[dict[str, Any]] = [_text(title(alert), size="Large", weight="Bolder", color=colour)]
    for heading, lines in paragraphs(alert):
        body += [_text(heading, weight="Bolder"), *map(_text, lines)]
    body += [_text(f"{name}: {value}", isSubtle=True) for name, value in facts(alert)]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
        "actions": [{"type": "Action.OpenUrl", "title": name, "url": url} for name, url in alert.links.items()],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def _text(text: str, **style: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "spacing": "Small", "inlines": [{"type": "TextRun", "text": text, **style}]}
