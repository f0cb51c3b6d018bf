"""The audit: who did what, when, why and with which result.

python scripts/audit.py verify
python scripts/audit.py list --source polyclinic_visits --since 2025-11-01
python scripts/audit.py show 812
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from include.etl.errors import ConfigurationError
from include.etl.records import audit_check
from include.etl.storage import DATA_URI, Storage
from scripts import command_line as cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    return cli.run(_work, _parser().parse_args(arguments))


def _work(asked: argparse.Namespace) -> int:
    return {"verify": _verify, "list": _list, "show": _show}[asked.action](Storage.from_environment(), asked)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    as_json = argparse.ArgumentParser(add_help=False)
    cli.add_json(as_json)
    actions.add_parser("verify", parents=[as_json], help="look for lines that were removed, changed, added or moved")
    listed = actions.add_parser("list", parents=[as_json], help="the lines in short, oldest first")
    listed.add_argument("--source", help="of this source only")
    listed.add_argument("--since", type=_moment, metavar="MOMENT", help="from this ISO date or time (UTC) on")
    shown = actions.add_parser("show", parents=[as_json], help="all of one line")
    shown.add_argument("number", type=int, help="the line's number, as `list` shows it")
    return parser


def _moment(text: str) -> str:
    """As the lines of the audit write it, which are compared as text."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: an ISO date or time such as 2025-11-01") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


def _verify(storage: Storage, asked: argparse.Namespace) -> int:
    checked = audit_check.check(storage)
    if not checked.lines and not checked.problems:
        raise ConfigurationError(f"{DATA_URI}: {storage.root}: no audit in it; allowed: the folder that runs write to")
    lines = [f"{one.file}:{one.line}: {one.what}" for one in checked.problems]
    lines += [f"note: number {one['number']} at {one['at']}: {one['reason']}" for one in checked.repairs]
    verdict = f"{len(checked.problems)} problems" if checked.problems else "in order"
    cli.say(asked, checked.as_json(), [*lines, f"{checked.lines} lines, {verdict}"])
    return cli.FAILED if checked.problems else cli.DONE


def _list(storage: Storage, asked: argparse.Namespace) -> int:
    everything = list(audit_check.entries(storage))
    known = sorted({str(line["source"]) for line in everything if line.get("source")})
    if asked.source and asked.source not in known:
        raise ConfigurationError(f"--source: {asked.source!r}; allowed: {', '.join(known) or 'none: no line yet'}")
    found = list(audit_check.entries(storage, asked.source, asked.since or ""))
    lines = [_in_short(line) for line in found]
    cli.say(asked, found, lines or ["no line"])
    return cli.DONE


def _in_short(line: dict[str, Any]) -> str:
    number, action, at = str(line.get("number", "?")), str(line.get("action", "")), str(line.get("at"))[:19]
    who, source, reason = (str(line.get(key, "")) for key in ("who", "source", "reason"))
    return f"{number:>6}  {at}  {who:<16}  {action:<22}  {source:<24}  {reason}".rstrip()


def _show(storage: Storage, asked: argparse.Namespace) -> int:
    found = [line for line in audit_check.entries(storage) if line.get("number") == asked.number]
    if not found:
        raise ConfigurationError(f"number: {asked.number}; allowed: a number that `list` shows")
    cli.say(asked, found[0], [json.dumps(line, indent=2, ensure_ascii=False) for line in found])
    return cli.DONE


if __name__ == "__main__":
    sys.exit(main())
