"""The tasks of dags/recovery.py: Airflow's context in, the same functions as the command line, small JSON out."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from include.etl.errors import DataError, ExtractionError, TransientError
from include.etl.records.checkpoint import AirflowVariables
from include.etl.recovery import drill as drills
from include.etl.recovery import report as reports
from include.etl.recovery import request
from include.etl.recovery.asked import Asked
from include.etl.recovery.source import Recovered
from include.etl.recovery.source import recover as recover_source
from include.etl.sources import load_source
from include.etl.storage import Storage, read_json, write_json

RESTORED = "restored.json"
"""What the first task has put back, from which backup, and the sources that a result is expected of."""
log = logging.getLogger("etl.recovery")


def restore(context: Mapping[str, Any]) -> list[list[str]]:
    """Check what is asked for and put the configuration back; the sources to recover, those of a group together."""
    storage, asked = _asked(context)
    changed = request.restored_configuration(storage, asked)
    groups = request.chosen_sources(request.named(context["params"]["sources"]))
    names = list(chain.from_iterable(groups))
    pinned = {"backup": asked.backup.name if asked.backup else None, "configuration": changed, "sources": names}
    write_json(reports.folder(storage, asked.stamp) / RESTORED, pinned)
    return groups


def recover(context: Mapping[str, Any], sources: Sequence[str]) -> dict[str, str]:
    """Recover the sources of a group in their order; an error of one is raised when all have had their turn."""
    storage, asked = _asked(context)
    done = [_recovered(storage, asked, source) for source in sources]
    if failed := [one for one in done if one.error]:
        error = TransientError if any(one.transient for one in failed) else ExtractionError
        raise error("; ".join(f"{one.source}: {one.error}" for one in failed))
    return {one.source: one.verdict for one in done}


def _recovered(storage: Storage, asked: Asked, source: str) -> Recovered:
    """One source; what was done is kept for the report, and not done again by the next try if it was proven good."""
    path = _result_path(storage, asked, source)
    if path.exists() and (earlier := Recovered(**read_json(path))).verdict == "recovered":
        return earlier
    done = recover_source(load_source(source), asked, storage, AirflowVariables(), log.info)
    write_json(path, asdict(done))
    return done


def report(context: Mapping[str, Any]) -> str:
    """Write the report; a DataError unless every source is proven good."""
    storage, asked = _asked(context)
    pinned = reports.folder(storage, asked.stamp) / RESTORED
    restored = read_json(pinned) if pinned.exists() else {"configuration": [], "sources": []}
    done = [_result(storage, asked, name) for name in restored["sources"]]
    seconds = time.time() - context["dag_run"].start_date.timestamp()
    found = request.as_report(asked, restored["configuration"], done, seconds)
    path = storage.relative(reports.write(storage, asked.stamp, found))
    for line in reports.lines(found):
        log.info(line)
    if found["verdict"] != "recovered":
        raise DataError(f"recovery {asked.stamp}: {found['verdict']}; see data/{path}")
    return path


def drill(context: Mapping[str, Any]) -> str:
    """Practise; a DataError where a source could not be read."""
    storage, stamp = Storage.from_environment(), _stamp(context)
    found = drills.drill(storage, AirflowVariables(), stamp, who=_by(context))
    path = storage.relative(reports.write_drill(storage, stamp, found, drills.lines(found)))
    for line in drills.lines(found):
        log.info(line)
    if found["verdict"] != "recovered":
        raise DataError(f"drill {stamp}: {found['verdict']}; see data/{path}")
    return path


def _result(storage: Storage, asked: Asked, source: str) -> Recovered:
    """What the source's task has kept; a failure where it was killed before it could."""
    path = _result_path(storage, asked, source)
    if not path.exists():
        return Recovered(source, verdict="failed", error="its task left no result; see the task's log")
    return Recovered(**read_json(path))


def _result_path(storage: Storage, asked: Asked, source: str) -> Path:
    return reports.folder(storage, asked.stamp) / f"source-{source}.json"


def _asked(context: Mapping[str, Any]) -> tuple[Storage, Asked]:
    storage, params = Storage.from_environment(), context["params"]
    wanted = {name: params[name] for name in ("backup", "start", "end", "reason", "sources")}
    wanted["replace"] = bool(params.get("replace"))
    pinned = reports.folder(storage, _stamp(context)) / RESTORED
    if pinned.exists():  # `latest` may be another one by now
        wanted["backup"] = read_json(pinned)["backup"]
    return storage, request.understood(storage, _stamp(context), **wanted, by=_by(context))


def _by(context: Mapping[str, Any]) -> str:
    """Who triggered the run; nobody where it was scheduled."""
    return context["dag_run"].triggering_user_name or ""


def _stamp(context: Mapping[str, Any]) -> str:
    """The same for all tasks of a run."""
    moment: datetime = context["dag_run"].run_after
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"
