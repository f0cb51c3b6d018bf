"""Show and repair checkpoints: up to where each source has been published.

    python scripts/checkpoints.py list
    python scripts/checkpoints.py show polyclinic_visits
    python scripts/checkpoints.py set polyclinic_visits --to 2025-11-01T00:00:00Z --reason "late corrections"
    python scripts/checkpoints.py restore polyclinic_visits
    python scripts/checkpoints.py reset polyclinic_visits --reason "start over"

set, restore and reset ask before they change anything (--yes answers), keep what they replace in
data/checkpoints/<source>, and write a line to data/audit. They wait for a publication of the source to end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from include.etl.config import Source
from include.etl.errors import CheckpointError, ConfigurationError
from include.etl.records import audit, checkpoint
from include.etl.run import CommandLineVariables
from include.etl.sources import BrokenSource, load_source, load_sources
from include.etl.storage import Storage
from scripts import command_line as cli

Report = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    asked = _parser().parse_args(arguments)
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")  # Variables are read as the API server does it
    return cli.run(_work, asked)


def _work(asked: argparse.Namespace) -> int:
    storage, variables = Storage.from_environment(), CommandLineVariables()
    if asked.command == "list":
        return _list(variables, storage, asked)
    source = load_source(asked.source)
    if source.cursor is None:
        raise ConfigurationError(f"source {source.source!r} has no cursor, so it has no checkpoint")
    if asked.command == "show":
        return _show(source, variables, storage, asked)
    return _change(source, variables, storage, asked)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    json_only = argparse.ArgumentParser(add_help=False)
    cli.add_json(json_only)
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("source", help="name of the source")
    change = argparse.ArgumentParser(add_help=False)
    change.add_argument("--reason", default="", help="why; kept in the audit")
    cli.add_yes(change)
    commands.add_parser("list", parents=[json_only], help="the checkpoints of all sources")
    commands.add_parser("show", parents=[one, json_only], help="one checkpoint and its kept versions")
    moved = commands.add_parser(
        "set", parents=[one, change, json_only], help="move it: earlier reads again, later skips"
    )
    moved.add_argument("--to", required=True, metavar="BOUND", help="everything before this counts as published")
    kept = commands.add_parser("restore", parents=[one, change, json_only], help="take a kept version, the newest")
    kept.add_argument("--to", metavar="FILE", help="or this one, by the file name that `show` lists")
    commands.add_parser("reset", parents=[one, change, json_only], help="delete it; the next run must have mode full")
    return parser


def _list(variables: checkpoint.Variables, storage: Storage, asked: argparse.Namespace) -> int:
    sources = [found for found in load_sources() if isinstance(found, Source) and found.cursor]
    reports = [_checked(source, variables, storage) for source in sources]
    reports += [{"source": one.source, "problem": one.error} for one in load_sources() if isinstance(one, BrokenSource)]
    cli.say(asked, reports, [f"{one['source']:<24} {_in_words(one)}" for one in reports])
    return cli.WRONG if any("problem" in one for one in reports) else cli.DONE


def _checked(source: Source, variables: checkpoint.Variables, storage: Storage) -> Report:
    """As a run would find it: one that is gone, though there was one, is a problem."""
    try:
        checkpoint.read(source, variables, storage)
    except CheckpointError as error:
        return {"source": source.source, "problem": str(error)}
    return _state(source, variables)


def _state(source: Source, variables: checkpoint.Variables) -> Report:
    """What the Variable says by itself."""
    try:
        found = checkpoint.parse(source, variables)
    except CheckpointError as error:
        return {"source": source.source, "problem": str(error)}
    return {"source": source.source, "checkpoint": found and found.model_dump(mode="json")}


def _in_words(state: Report) -> str:
    if "problem" in state:
        return f"cannot be used: {state['problem']}"
    found = state["checkpoint"]
    return f"{found['bound']}  set {found['updated_at']} by {found['run_id']}" if found else "none"


def _show(source: Source, variables: checkpoint.Variables, storage: Storage, asked: argparse.Namespace) -> int:
    state, kept = _checked(source, variables, storage), []
    for path in checkpoint.history(storage, source.source):
        try:
            kept.append({"file": path.name, "bound": str(_version(source, path).model_dump(mode="json")["bound"])})
        except CheckpointError:
            kept.append({"file": path.name, "bound": "cannot be used"})
    lines = [_in_words(state), *(f"    {one['file']}  {one['bound']}" for one in kept)]
    cli.say(asked, state | {"kept": kept}, lines)
    return cli.WRONG if "problem" in state else cli.DONE


def _version(source: Source, path: Path) -> checkpoint.Checkpoint:
    try:
        return checkpoint.understood(source, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path.name}: cannot be read: {type(error).__name__}") from None


def _change(source: Source, variables: CommandLineVariables, storage: Storage, asked: argparse.Namespace) -> int:
    bound = _wanted(source, storage, asked)
    checkpoint.refuse_overridden(source, variables)
    key = checkpoint.variable_key(source.source)
    with storage.lock(source.source, f"scripts/checkpoints.py {asked.command}"):
        before = variables.get(key)
        told = f"{source.source}: {_in_words(_state(source, variables))}\n    becomes: {bound or 'none'}"
        cli.confirm(asked, told)
        checkpoint.keep_replaced(storage, source.source, before)
        facts: dict[str, Any] = {"before": before, "after": None if bound is None else str(bound)}
        audit.record(storage, f"checkpoint {asked.command}", source.source, asked.reason, **facts)
        if bound is None:
            checkpoint.remove(source, variables)
        else:
            checkpoint.put(source, bound, f"scripts/checkpoints.py {asked.command}", variables, storage)
    state = _state(source, variables)
    hint = "" if bound else f"; the next run: python scripts/run_extraction.py --sources {source.source} --mode full"
    cli.say(asked, state, [f"{source.source}: {_in_words(state)}{hint}"])
    return cli.DONE


def _wanted(source: Source, storage: Storage, asked: argparse.Namespace) -> Any:
    """The new bound; None for reset."""
    if asked.command == "reset":
        return None
    if asked.command == "set":
        return _bound(source, asked.to)
    kept = {path.name: path for path in checkpoint.history(storage, source.source)}
    if asked.to and asked.to not in kept:
        raise ConfigurationError(f"--to: {asked.to!r}; allowed: {', '.join(kept) or 'nothing: no version is kept'}")
    for path in [kept[asked.to]] if asked.to else reversed(kept.values()):
        try:
            return _version(source, path).bound
        except CheckpointError as error:
            print(f"{path.name} is passed over: {error}", file=sys.stderr)
    raise CheckpointError(f"source {source.source!r}: no kept version can be used; reset it and run with mode full")


def _bound(source: Source, text: str) -> Any:
    now = datetime.now(UTC).isoformat()
    plain = {"source": source.source, "cursor": source.cursor and source.cursor.column, "run_id": "", "updated_at": now}
    value = int(text) if text.lstrip("-").isascii() and text.lstrip("-").isdigit() else text
    try:
        bound = checkpoint.understood(source, json.dumps(plain | {"bound": value})).bound
    except CheckpointError:
        raise ConfigurationError(f"--to: {text!r}; allowed: a moment with a time zone: 2025-11-01T00:00:00Z") from None
    if isinstance(bound, datetime) and bound > datetime.now(UTC):
        raise ConfigurationError(f"--to: {text!r}; allowed: a moment that has passed, or rows would be skipped")
    return bound


if __name__ == "__main__":
    sys.exit(main())
