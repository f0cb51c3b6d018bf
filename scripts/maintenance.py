"""Retention and backups by hand; the DAG `maintenance` does the same each night.

    python scripts/maintenance.py plan
    python scripts/maintenance.py run --yes
    python scripts/maintenance.py backup
    python scripts/maintenance.py verify-backup

`run` makes a list, asks, and deletes exactly that list. docs/maintenance.md says what goes when.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from include.etl.maintenance import backups, removal
from include.etl.run import CommandLineVariables
from include.etl.storage import Storage
from scripts import command_line as cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")  # Variables are read as the API server does it
    return cli.run(_work, _parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("action", choices=("plan", "run", "backup", "verify-backup"))
    parser.add_argument("--backup", metavar="STAMP", help="verify-backup: this one; the newest by default")
    cli.add_yes(parser)
    cli.add_json(parser)
    return parser


def _work(asked: argparse.Namespace) -> int:
    report = _do(Storage.from_environment(), asked)
    cli.say(asked, report, _lines(report))
    return cli.DONE if report.get("done", True) else cli.FAILED


def _do(storage: Storage, asked: argparse.Namespace) -> dict[str, Any]:
    if asked.action == "backup":
        return {"backup": backups.make(storage, CommandLineVariables())}
    if asked.action == "verify-backup":
        return backups.verify(storage, asked.backup)
    planned = removal.plan(storage)
    listed = removal.read_list(storage, planned["list"], planned["sha256"])
    if asked.action == "plan":
        return planned | listed.model_dump(mode="json")
    cli.confirm(asked, "\n".join(_lines(planned | listed.model_dump(mode="json"))))
    return removal.delete(storage, planned["list"], planned["sha256"])


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [f"{one['path']}  {one['bytes']} bytes, {one['newest']}: {one['why']}" for one in report.get("entries", [])]
    lines += [f"look at: {one['path']}: {one['what']}" for one in report.get("findings", [])]
    lines += [f"in use, next time: {source}" for source in report.get("busy", [])]
    lines += [f"{kind}: {numbers}" for kind, numbers in report.get("totals", {}).items()]
    lines += [f"{key}: {report[key]}" for key in ("backup", "list", "stayed", "problems") if key in report]
    return lines


if __name__ == "__main__":
    sys.exit(main())
