"""The kinds of single values in a source YAML, each with a message that says what is allowed."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cache
from typing import Annotated, Any
from zoneinfo import available_timezones

from croniter import croniter
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from include.etl.outputs import OUTPUTS
from include.etl.transforms import TRANSFORMS

_LONGEST = 3650 * 86_400
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Model(BaseModel):
    """Base of all parts of a source: unknown keys are refused, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


def _duration(value: Any) -> timedelta:
    """`90s`, `15m`, `1h`, `2d` -> timedelta."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+)\s*([smhd])", str(value))
    if not match:
        raise ValueError("a whole number and a unit: 90s, 15m, 1h or 2d")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds > _LONGEST:
        raise ValueError("at most 3650d")
    return timedelta(seconds=seconds)


def _share(value: Any) -> float:
    """`10%`, `0.5%` -> 0.1, 0.005."""
    if isinstance(value, float):
        return value
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,4})?)\s*%", str(value))
    if not match or float(match[1]) > 100:
        raise ValueError("a percentage from 0% to 100%, such as 10%")
    return float(match[1]) / 100


def _cron(value: str) -> str:
    if not croniter.is_valid(value) or len(value.split()) not in (1, 5):
        raise ValueError("a cron expression of five fields (minute hour day month weekday) or @daily, @weekly, ...")
    return value


@cache
def _zones() -> set[str]:
    """All time zones; listing them walks through folders of files, which is too slow to do for every source."""
    return available_timezones()


def _zone(value: str) -> str:
    if value not in _zones():
        raise ValueError("the name of a time zone, such as Asia/Singapore or UTC")
    return value


def known(what: str, registry: dict[str, str]) -> AfterValidator:
    """A value that is a name of this registry."""

    def check(value: str) -> str:
        if value not in registry:
            raise ValueError(f"one of: {', '.join(registry)} ({what})")
        return value

    return AfterValidator(check)


_DURATION_SCHEMA = {"type": "string", "pattern": "^[0-9]+ *[smhd]$", "examples": ["90s", "15m", "1h", "2d"]}
Duration = Annotated[timedelta, BeforeValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)]
_SHARE_SCHEMA = {"type": "string", "pattern": "^[0-9]{1,3}(\\.[0-9]{1,4})? *%$", "examples": ["10%", "0.5%"]}
Share = Annotated[float, BeforeValidator(_share), WithJsonSchema(_SHARE_SCHEMA)]
Cron = Annotated[str, AfterValidator(_cron)]
Zone = Annotated[str, AfterValidator(_zone)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Column = Annotated[str, Field(min_length=1, max_length=128)]
Format = Annotated[
    str, known("outputs/__init__.py", OUTPUTS), WithJsonSchema({"type": "string", "enum": list(OUTPUTS)})
]
Step = Annotated[
    str, known("transforms/__init__.py", TRANSFORMS), WithJsonSchema({"type": "string", "enum": list(TRANSFORMS)})
]
# A file name inside its folder: no separators, so that no YAML can point outside the project.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
