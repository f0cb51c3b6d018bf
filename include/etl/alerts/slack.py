"""Slack: an incoming webhook, or with `channel` the API of a bot."""

from __future__ import annotations

from typing import Any

from airflow.providers.slack.hooks.slack import SlackHook
from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

from include.etl.alerts.base import TIMEOUT_S, Alert
from include.etl.alerts.message import facts, paragraphs, title
from include.etl.config_alerts import ChannelSettings

LONGEST = 3000
"""Characters that Slack takes in a block of text."""


class SlackChannel:
    """A message of blocks; its plain title is what a phone shows."""

    def __init__(self, settings: ChannelSettings) -> None:
        self.settings = settings

    def send(self, alert: Alert) -> None:
        """Post it."""
        body = slack_body(alert)
        if self.settings.channel:
            api = SlackHook(slack_conn_id=self.settings.conn_id, timeout=TIMEOUT_S, retry_handlers=[])
            api.call("chat.postMessage", json={"channel": self.settings.channel, **body})
        else:
            webhook = SlackWebhookHook(
                slack_webhook_conn_id=self.settings.conn_id, timeout=TIMEOUT_S, retry_handlers=[]
            )
            webhook.send_dict(body)


def slack_body(alert: Alert) -> dict[str, Any]:
    """The JSON that Slack is sent."""
    blocks: list[dict[str, Any]] = [{"type": "header", "text": {"type": "plain_text", "text": title(alert)[:150]}}]
    for heading, lines in paragraphs(alert):
        blocks += _sections([f"*{_escaped(heading)}*", *map(_escaped, lines)])
    blocks += _sections([f"{name}: {_escaped(value)}" for name, value in facts(alert)])
    if alert.links:
        blocks += _sections(["   ".join(f"<{url}|{name}>" for name, url in alert.links.items())])
    return {"text": _escaped(title(alert)), "blocks": blocks}


def _sections(lines: list[str]) -> list[dict[str, Any]]:
    """As many blocks as the lines need, so that the last ones, which say what to do, are not cut off."""
    texts: list[str] = []
    for line in lines:
        if texts and len(texts[-1]) + len(line) < LONGEST:
            texts[-1] += f"\n{line}"
        else:
            texts.append(line[:LONGEST])
    return [{"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in texts]


def _escaped(text: str) -> str:
    """Nothing in a message can become a link or a mention; Slack knows these three entities only."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
