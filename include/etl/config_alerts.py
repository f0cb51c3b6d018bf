"""What a source YAML may say under `alerts`: who is told of what."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from include.etl.alerts import CHANNELS, CONDITIONS
from include.etl.config_values import Duration, Model, Name, known

LOG = "log"
"""The channel that is always there."""
OTHERS = "others"
"""Stands for all conditions that are not under `route`."""

ChannelType = Annotated[
    str, known("alerts/__init__.py", CHANNELS), WithJsonSchema({"type": "string", "enum": list(CHANNELS)})
]
Condition = Annotated[str, known("alerts/__init__.py", {**CONDITIONS, OTHERS: ""})]


def _address(value: str) -> str:
    if not re.fullmatch(r"[^@\s,;<>]+@[^@\s,;<>]+", value):
        raise ValueError("an address such as night-shift@example.org")
    return value


def _connection(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
        raise ValueError("the name of an Airflow connection; address and secret are kept there")
    return value


Address = Annotated[str, AfterValidator(_address)]
ConnectionName = Annotated[str, AfterValidator(_connection)]


class ChannelSettings(Model):
    """One way to reach people. Addresses of servers and secrets are in the Airflow connection."""

    type: ChannelType
    """What kind it is: email, slack, teams."""
    conn_id: ConnectionName
    """Airflow connection of the mail server, the Slack webhook or API, the Teams workflow."""
    to: list[Address] = Field(default_factory=list)
    """Mail addresses; email needs at least one."""
    channel: str | None = None
    """Slack channel, such as "#night-shift": the connection is then one of the Slack API, without it of a webhook."""

    @model_validator(mode="after")
    def _complete(self) -> ChannelSettings:
        if (self.type == "email") != bool(self.to):
            raise ValueError("`to` (a list of mail addresses) belongs to `type: email`, which needs it")
        if self.channel and self.type != "slack":
            raise ValueError("`channel` belongs to `type: slack`")
        return self


class RowCountDeviation(Model):
    """When a number of rows is unusual."""

    percent: Annotated[float, Field(gt=0)] = 20
    """More than this many percent above or below the median of earlier runs of the same weekday."""
    runs: Annotated[int, Field(ge=1, le=52)] = 4
    """So many earlier runs are compared; nothing is said before there are as many."""


class Alerts(Model):
    """Who is told when something is wrong, and when it is right again. The log is told everything in any case."""

    channels: dict[Name, ChannelSettings] = Field(default_factory=dict)
    """Name of your own -> how to reach people. Everything goes to all of them unless `route` says otherwise."""
    route: dict[Condition, list[Name]] = Field(default_factory=dict)
    """Condition -> names of the channels that are told; [log] for none of them. `others`: the conditions not named."""
    row_count_deviation: RowCountDeviation = RowCountDeviation()
    """When the number of rows is unusual."""
    late_after: Duration = timedelta(hours=6)
    """Data is late when nothing has been published so long after its schedule, and a run when it takes so long."""

    @model_validator(mode="after")
    def _known_channels(self) -> Alerts:
        if LOG in self.channels:
            raise ValueError("`channels.log` is always there and needs no settings; remove it")
        for condition, names in self.route.items():
            for name in names:
                if name not in (*self.channels, LOG):
                    allowed = ", ".join((*self.channels, LOG))
                    raise ValueError(f"`route.{condition}` names {name!r}, but the channels are: {allowed}")
        return self

    def names(self, condition: str) -> list[str]:
        """The channels that are told of this condition, besides the log."""
        found = self.route.get(condition, self.route.get(OTHERS, list(self.channels)))
        return [name for name in found if name != LOG]
