"""What include/maintenance.yaml may say: how long each kind of data is kept, and which sources are held."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from include.etl.config import include_folder
from include.etl.config_values import Cron, Duration, Model, Name, Zone
from include.etl.errors import ConfigurationError

FILE = "maintenance.yaml"
DAY = timedelta(days=1)
Age = Annotated[Duration | None, BeforeValidator(lambda value: None if value == "forever" else value)]
Count = Annotated[int, Field(ge=1, le=3650)]


class Keep(Model):
    """How long each kind is kept; `forever` is possible for all."""

    raw: Age = 14 * DAY
    interim: Age = 14 * DAY
    processed: Age = None
    quarantine: Age = 365 * DAY
    reports: Age = 365 * DAY
    runs: Age = 730 * DAY
    checkpoints: Age = 730 * DAY
    """Kept versions; the newest ones of a source stay whatever their age."""
    logs: Age = 90 * DAY
    history: Age = None


class Backups(Model):
    """How many backups are kept: the newest one of so many days, and of so many months."""

    daily: Count = 14
    monthly: Count = 12


class Policy(Model):
    """The file as a whole; each key may be left out."""

    dry_run: bool = True
    """Only list what would go. An operator switches it off."""
    schedule: Cron = "30 4 * * *"
    timezone: Zone = "UTC"
    hold: list[Name] = Field(default_factory=list)
    """Sources of which nothing goes."""
    longest_run: Duration = 2 * DAY
    """Longer than any run takes, with retries and waiting: nothing younger is touched."""
    keep: Keep = Keep()
    backups: Backups = Backups()

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the schedule."""
        return ZoneInfo(self.timezone)

    @model_validator(mode="after")
    def _longer_than_a_run(self) -> Policy:
        for kind, age in self.keep:
            if age is not None and age < self.longest_run:
                raise ValueError(f"`keep.{kind}` must be at least `longest_run`, or `forever`")
        return self


def load_policy() -> Policy:
    """The file's content; defaults where there is no file.

    Raises:
        ConfigurationError: the file cannot be used; with the key and what is allowed.
    """
    path = include_folder() / FILE
    if not path.exists():
        return Policy()
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return Policy.model_validate(content)
    except ValidationError as error:
        told = [f"{FILE}: {'.'.join(map(str, one['loc'])) or '(whole file)'}: {one['msg']}" for one in error.errors()]
        raise ConfigurationError("\n".join(told)) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{FILE}: cannot be read: {type(error).__name__}") from None
