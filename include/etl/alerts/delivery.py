"""Takes an alert to the channels that a source names; one that is down is reported and hides nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from include.etl.alerts import open_channel
from include.etl.alerts.base import Alert, Finding
from include.etl.alerts.log import LogChannel
from include.etl.config_alerts import Alerts, ChannelSettings
from include.etl.errors import ExtractionError

log = logging.getLogger("etl.alerts")
ROUND_S, ALL_S = 12.0, 25.0
"""Airflow ends a callback after `dag_processor.dag_file_processor_timeout`, 50 s by default, so none may hang."""
SENT = "sent"
Outcomes = dict[str, str]
"""Name of a channel -> SENT, or why not."""


def deliver(alerts: Alerts, alert: Alert) -> Outcomes:
    """Log it, and send it to all channels that are told of it; never raises.

    If one is down, the next that works is told so, and all that nobody else has been told.
    """
    started = time.monotonic()
    # Without `[api] base_url` they name no server, and would lead nowhere from a mail or a chat.
    alert = replace(alert, links={name: url for name, url in alert.links.items() if not url.startswith("/")})
    LogChannel().send(alert)
    wanted = {name: told for name in alerts.channels if (told := _told(alerts, name, alert))}
    outcomes = _send_all(alerts.channels, wanted)
    down = {name: outcome for name, outcome in outcomes.items() if outcome != SENT}
    for name in alerts.names("channel_down") if down else ():
        if name in down or time.monotonic() - started > ALL_S - ROUND_S:
            continue
        told = _report(alert, down, known=name in wanted)
        outcome = _send_all(alerts.channels, {name: told})[name]
        outcomes[f"{name}, in place of {', '.join(down)}"] = outcome
        if outcome == SENT:
            break
    for name, outcome in outcomes.items():
        if outcome != SENT:
            log.error("%s: an alert was not sent through channel %s: %s", alert.source, name, outcome)
    return outcomes


def untold(alerts: Alerts, alert: Alert, outcomes: Outcomes) -> list[Finding]:
    """What no channel has taken, of what channels should have been told."""
    if any(outcome == SENT for name, outcome in outcomes.items() if name not in alerts.channels):  # in place of others
        return []
    meant = [(one, [name for name in alerts.channels if _concerns(alerts, name, one)]) for one in alert.findings]
    return [one for one, names in meant if names and all(outcomes[name] != SENT for name in names)]


def _concerns(alerts: Alerts, name: str, finding: Finding) -> bool:
    return any(name in alerts.names(condition) for condition in finding.conditions)


def _told(alerts: Alerts, name: str, alert: Alert) -> Alert | None:
    """What this channel is told of the alert; None if nothing."""
    found = [one for one in alert.findings if _concerns(alerts, name, one)]
    return alert.only(found) if found else None


def _report(alert: Alert, down: Mapping[str, str], *, known: bool) -> Alert:
    """The same alert and that channels are down; only the latter where the alert itself is known there."""
    finding = Finding(
        conditions=("channel_down",),
        severity="warning",
        what=f"this alert ({', '.join(one.conditions[0] for one in alert.findings)}) could not be sent everywhere",
        details=tuple(f"{name}: {why}" for name, why in down.items()),
        since=alert.at,
        to_do="Check the channel's Airflow connection and its server; see docs/alerts.md.",
    )
    return replace(alert, findings=(finding,) if known else (*alert.findings, finding))


def _send_all(channels: Mapping[str, ChannelSettings], wanted: Mapping[str, Alert]) -> Outcomes:
    """Send side by side. One that does not come to an end in time is left behind."""
    outcomes = dict.fromkeys(wanted, f"no answer within {ROUND_S:g} s")

    def send(name: str) -> None:
        try:
            open_channel(channels[name]).send(wanted[name])
            outcomes[name] = SENT
        except Exception as error:  # noqa: BLE001 - whatever it is, a channel must not harm a run
            # The text of others' errors may hold the address of a webhook, which is a secret.
            told = f": {error}" if isinstance(error, ExtractionError) else ""
            outcomes[name] = f"{type(error).__name__}{told} (connection {channels[name].conn_id!r})"

    threads = [threading.Thread(target=send, args=[name], daemon=True) for name in wanted]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + ROUND_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(outcomes)
