"""What a person asks a recovery to do: refused if it makes no sense, before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from include.etl.config import Source, include_folder
from include.etl.errors import ConfigurationError
from include.etl.phases.request import ISO
from include.etl.recovery import backup as backups
from include.etl.recovery import report
from include.etl.recovery.asked import NUMBER, Asked
from include.etl.recovery.source import Recovered
from include.etl.sources import load_source, load_sources
from include.etl.storage import Storage


def new_stamp() -> str:
    """Name of a recovery: the moment it began."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def understood(
    storage: Storage,
    stamp: str,
    *,
    backup: str | None = None,
    start: str | None = None,
    end: str | None = None,
    reason: str | None = None,
    sources: str | None = None,
    by: str = "",
    replace: bool = False,
) -> Asked:
    """The request, checked as far as it can be without the configuration, which the backup may hold.

    Raises:
        ConfigurationError: names the parameter, what was given and what is allowed.
    """
    if not (reason or "").strip():
        raise ConfigurationError("reason: nothing given; allowed: a sentence for whoever asks later")
    for name, value in (("start", start), ("end", end)):
        if value and not re.fullmatch(f"{ISO}|{NUMBER}", value.strip()):
            raise ConfigurationError(
                f"{name}: {value!r}; allowed: an ISO date or time such as 2024-01-31, or a number of the cursor"
            )
    if end and not start:
        raise ConfigurationError(f"end: {end!r}; allowed: nothing without start")
    found = backups.chosen(storage, backup) if backup else None
    if found:
        _refuse_unknown(named(sources), found)
    return Asked(stamp, str(reason).strip(), found, start or None, end or None, by, replace)


def _refuse_unknown(names: Sequence[str], backup: backups.Backup) -> None:
    configured = (path.stem for path in (include_folder() / "sources").glob("[!_]*.yaml"))  # the folder may be gone
    known = {*backups.sources(backup), *configured}
    for name in names:
        if name not in known:
            raise ConfigurationError(f"sources: {name!r}; allowed: {', '.join(sorted(known))}")


def named(sources: str | None) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in (sources or "").split(",") if name.strip()]


def restored_configuration(storage: Storage, asked: Asked) -> list[str]:
    """Put the backup's configuration back where it differs; the names of those files."""
    if asked.backup is None:
        return []
    asked.record(storage, "configuration restore", "", backup=asked.backup.name)
    aside = storage.folder("damaged", "_configuration") / asked.stamp
    changed = backups.restore_configuration(asked.backup, include_folder(), aside)
    asked.record(storage, "configuration restored", "", backup=asked.backup.name, files=changed)
    return changed


def chosen_sources(names: Sequence[str]) -> list[list[str]]:
    """The sources of these names, all that are configured if none is named; see `grouped`.

    Raises:
        ConfigurationError: a source does not exist, or its file is broken.
    """
    found = names or [one.source for one in load_sources()]
    if not found:
        raise ConfigurationError("sources: none is configured; restore include/sources, or name a backup")
    return grouped([load_source(name) for name in dict.fromkeys(found)])


def grouped(sources: Sequence[Source]) -> list[list[str]]:
    """Those that refer to each other's published data together, each after what it refers to."""
    needs = {one.source: {other.source for other in one.validation.references.values()} for one in sources}
    groups: list[list[str]] = []
    for name in _after_their_needs(needs):
        tied = [group for group in groups if needs[name] & {*group}]
        groups = [group for group in groups if group not in tied]
        groups.append([*chain.from_iterable(tied), name])
    return groups


def _after_their_needs(needs: Mapping[str, Set[str | None]]) -> list[str]:
    """Depth first, so that two that refer to each other, which no order can satisfy, do not stop the others."""
    order: dict[str, None] = {}
    begun: set[str] = set()

    def add(name: str) -> None:
        if name not in begun:
            begun.add(name)
            for other in sorted(needs.keys() & needs[name]):
                add(other)
            order[name] = None

    for name in needs:
        add(name)
    return list(order)


def as_report(asked: Asked, configuration: Sequence[str], done: Sequence[Recovered], seconds: float) -> report.Report:
    """All that was found and done."""
    sources: list[dict[str, Any]] = [asdict(one) for one in done]
    return {
        "recovery": asked.stamp,
        "verdict": report.verdict(sources),
        "reason": asked.reason,
        "by": asked.by,
        "backup": asked.backup.name if asked.backup else None,
        "configuration": list(configuration),
        "sources": sources,
        "seconds": round(seconds, 1),
    }
