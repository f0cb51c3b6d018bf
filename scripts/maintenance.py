"""Retention and backups by hand; the DAG `maintenance` does the same each night.

    python scripts/maintenance.py plan
    python scripts/maintenance.py run --yes
    python scripts/maintenance.py backup
    python scripts/maintenance.py verify-backup

`run` makes a list, asks, and deletes exactly that list. docs/maintenance.md says what goes when.
Exit status: 0 done, 1 not done or something is damaged, 2 wrong request or configuration.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from include.etl.airflow_home import choose_home
from include.etl.errors import ConfigurationError, ExtractionError
from include.etl.maintenance import backups, removal
from include.etl.run import CommandLineVariables
from include.etl.storage import Storage

OK, FAILED, WRONG = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    asked = _parser().parse_args(arguments)
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")  # Variables are read as the API server does it
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    choose_home()
    try:
        with redirect_stdout(sys.stderr):  # where log lines go: only results belong on standard output
            report = _do(Storage.from_environment(), asked)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return WRONG
    except ExtractionError as error:
        print(error, file=sys.stderr)
        return FAILED
    print(json.dumps(report, indent=2) if asked.json else "\n".join(_lines(report)))
    return OK if report.get("done", True) else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("plan", "run", "backup", "verify-backup"))
    parser.add_argument("--backup", metavar="STAMP", help="verify-backup: this one; the newest by default")
    parser.add_argument("--yes", action="store_true", help="run: delete without asking")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _do(storage: Storage, asked: argparse.Namespace) -> dict[str, Any]:
    if asked.action == "backup":
        return {"backup": backups.make(storage, CommandLineVariables())}
    if asked.action == "verify-backup":
        return backups.verify(storage, asked.backup)
    planned = removal.plan(storage)
    listed = removal.read_list(storage, planned["list"], planned["sha256"])
    if asked.action == "plan":
        return planned | listed.model_dump(mode="json")
    if not asked.yes and not _agreed(_lines(planned | listed.model_dump(mode="json"))):
        return {"list": planned["list"], "totals": planned["totals"], "done": False}
    return removal.delete(storage, planned["list"], planned["sha256"])


def _agreed(lines: list[str]) -> bool:
    if not sys.stdin.isatty():
        print("there is no terminal to ask on; --yes answers; nothing was deleted", file=sys.stderr)
        return False
    print("\n".join(lines), "Delete this? [y/N] ", sep="\n", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [f"{one['path']}  {one['bytes']} bytes, {one['newest']}: {one['why']}" for one in report.get("entries", [])]
    lines += [f"look at: {one['path']}: {one['what']}" for one in report.get("findings", [])]
    lines += [f"in use, next time: {source}" for source in report.get("busy", [])]
    lines += [f"{kind}: {numbers}" for kind, numbers in report.get("totals", {}).items()]
    lines += [f"{key}: {report[key]}" for key in ("backup", "list", "stayed", "problems") if key in report]
    return lines


if __name__ == "__main__":
    sys.exit(main())
