"""Alerts: what people are told of a run, and through which channels. To add a channel: a file and a line here.

Importing this package stays light: `config.py` checks names against these two registries at every DAG parse.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.etl.alerts.base import Channel
    from include.etl.config_alerts import ChannelSettings

CHANNELS = {
    "email": "include.etl.alerts.email:EmailChannel",
    "slack": "include.etl.alerts.slack:SlackChannel",
    "teams": "include.etl.alerts.teams:TeamsChannel",
}
"""The type of a channel in the YAML -> what sends through it. The log (`log.py`) needs no settings and is always on."""

CONDITIONS = {
    "failure": "Run failed",
    "recovered": "Recovered",
    "quality_failure": "Stopped by its data",
    "critical_validation": "Critical validation",
    "warning_validation": "Validation warning",
    "quarantine": "Rows set aside",
    "row_count_deviation": "Unusual number of rows",
    "late_data": "Late data",
    "schema_drift": "Columns changed",
    "degraded_guarantee": "Degraded guarantee",
    "long_running_writer": "Long-running writer",
    "channel_down": "A channel of alerts is down",
    "findings": "Something to look at",
}
"""What can be told of a source, by its name in the YAML -> what a message calls it."""


def open_channel(settings: ChannelSettings) -> Channel:
    """The channel with these settings, as `config.py` has checked them; its library is imported here."""
    module, class_name = CHANNELS[settings.type].split(":")
    channel: Channel = getattr(import_module(module), class_name)(settings)
    return channel
