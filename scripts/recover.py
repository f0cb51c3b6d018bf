"""Recover after a disaster: configuration, checkpoints and published data, proven against the source.

    python scripts/recover.py backups
    python scripts/recover.py check
    python scripts/recover.py run --backup latest --reason "metadata database lost"
    python scripts/recover.py run --sources polyclinic_visits --start 2025-11-01 --end 2025-12-01 --reason "disk failed"
    python scripts/recover.py drill

docs/recovery.md is the book: which one when, and what you will see. `check` and `drill` change nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts import command_line as cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    asked = _parser().parse_args(arguments)
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")  # Variables are read as the API server does it
    return cli.run(asked.work, asked)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser("backups", help="the backups, and whether they are whole")
    check = commands.add_parser("check", help="what is damaged, and what would be read again; changes nothing")
    run = commands.add_parser("run", help="put back, read again, compare with the source")
    drill = commands.add_parser("drill", help="practise in a scratch place: how much would be lost, how long it takes")
    for command, work in ((shown, _backups), (check, _check), (run, _run), (drill, _drill)):
        command.set_defaults(work=work)
        cli.add_json(command)
    for command in (check, run, drill):
        command.add_argument("--sources", default="", help="names separated by commas; all by default")
    run.add_argument("--backup", metavar="NAME", help="put back configuration and checkpoints of this one, or latest")
    drill.add_argument("--backup", metavar="NAME", default="latest", help="the newest whole one by default")
    run.add_argument(
        "--start", help="read again from here (ISO date or time, or a number); by default what is lost is found"
    )
    run.add_argument("--end", help="up to here, exclusive; now by default")
    run.add_argument(
        "--replace", action="store_true", help="rows that have left the source go from what is read in full"
    )
    run.add_argument("--reason", default="", help="why; needed, and kept")
    cli.add_yes(run)
    return parser


def _backups(asked: argparse.Namespace) -> int:
    from include.etl.recovery import backup
    from include.etl.storage import Storage

    found = [backup.summary(one) for one in backup.backups(Storage.from_environment())]
    told = [f"{one['backup']}  {one['problem'] or 'whole: ' + ', '.join(one['sources'])}" for one in found]
    cli.say(asked, found, told or ["no backup is there"])
    return cli.FAILED if any(one["problem"] for one in found) else cli.DONE


def _check(asked: argparse.Namespace) -> int:
    from include.etl.recovery import request
    from include.etl.recovery.check import check
    from include.etl.run import CommandLineVariables
    from include.etl.sources import load_source
    from include.etl.storage import Storage

    storage, groups = Storage.from_environment(), request.chosen_sources(request.named(asked.sources))
    found = [check(load_source(name), storage, CommandLineVariables()) for name in chain.from_iterable(groups)]
    lines = []
    for one in found:
        lines.append(f"{one['source']}: {'good' if one['good'] else 'to be recovered'}; checkpoint {one['checkpoint']}")
        lines += [f"    {line}" for line in one["damage"]]
        lines += [f"    would be read again: {span}" for span in one["read_again"]]
    cli.say(asked, found, lines)
    return cli.DONE if all(one["good"] for one in found) else cli.FAILED


def _run(asked: argparse.Namespace) -> int:
    from include.etl.recovery import report, request
    from include.etl.recovery.source import recover
    from include.etl.run import CommandLineVariables
    from include.etl.sources import load_source
    from include.etl.storage import Storage

    storage, stamp, started = Storage.from_environment(), request.new_stamp(), time.monotonic()
    names = ("backup", "start", "end", "reason", "sources", "replace")
    wanted: dict[str, Any] = {name: getattr(asked, name) for name in names}
    understood = request.understood(storage, stamp, **wanted, by=os.environ.get("USER", ""))
    cli.confirm(asked, _told(asked, understood.backup.name if understood.backup else None))
    changed = request.restored_configuration(storage, understood)
    chosen = chain.from_iterable(request.chosen_sources(request.named(asked.sources)))
    variables = CommandLineVariables()
    done = [recover(load_source(name), understood, storage, variables, _progress) for name in chosen]
    found = request.as_report(understood, changed, done, time.monotonic() - started)
    path = report.write(storage, stamp, found)
    cli.say(asked, found, [*report.lines(found), f"report: {path}"])
    if found["verdict"] == "recovered":
        return cli.DONE
    troubled = [one for one in done if one.verdict != "recovered"]
    passing = all(one.transient or one.verdict == "not checked" for one in troubled)
    return cli.TRY_AGAIN if passing else cli.FAILED


def _told(asked: argparse.Namespace, backup: str | None) -> str:
    first = f"Put back configuration and checkpoints of backup {backup}" if backup else "Repair the checkpoints"
    span = f"read again from {asked.start} up to {asked.end or 'now'}" if asked.start else "read again what is lost"
    kept = "rows that have left a source go where all is read" if asked.replace else "what is whole stays"
    return f"{first}, set damaged files aside, {span}; {kept}: {asked.sources or 'all sources'}."


def _progress(text: str) -> None:
    print(text, file=sys.stderr)


def _drill(asked: argparse.Namespace) -> int:
    from include.etl.recovery import drill, report, request
    from include.etl.run import CommandLineVariables
    from include.etl.storage import Storage

    storage, stamp = Storage.from_environment(), request.new_stamp()
    names = request.named(asked.sources)
    found = drill.drill(storage, CommandLineVariables(), stamp, asked.backup, names)
    report.write_drill(storage, stamp, found, drill.lines(found))
    cli.say(asked, found, drill.lines(found))
    return cli.DONE if found["verdict"] == "recovered" else cli.FAILED


if __name__ == "__main__":
    sys.exit(main())
