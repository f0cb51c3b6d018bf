"""Rows that were set aside because they break critical expectations: see, release, drop.

    python scripts/quarantine.py list polyclinic_visits
    python scripts/quarantine.py show polyclinic_visits --run <key>
    python scripts/quarantine.py release polyclinic_visits --run <key> --reason "rule corrected"
    python scripts/quarantine.py drop polyclinic_visits --run <key> --reason "test patients" --yes

No row value is printed; `show` says where the rows lie. docs/bad-rows.md says what release and drop do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from include.etl.errors import ConfigurationError
from scripts import command_line as cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    return cli.run(_work, _parser().parse_args(arguments))


def _work(asked: argparse.Namespace) -> int:
    report = _list(asked) if asked.action == "list" else _about_one(asked)
    cli.say(asked, report, _lines(report))
    return cli.DONE


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("action", choices=("list", "show", "release", "drop"))
    parser.add_argument("source", help="name of the source")
    parser.add_argument("--run", help="key or id of the run that set the rows aside; list shows them")
    parser.add_argument("--reason", help="why; needed to release and to drop, and kept")
    cli.add_yes(parser)
    cli.add_json(parser)
    return parser


def _list(asked: argparse.Namespace) -> list[dict[str, Any]]:
    from include.etl import quarantine
    from include.etl.run import prepare

    run, _ = prepare(asked.source)
    return [one.model_dump(mode="json") for one in quarantine.standing(run.storage, asked.source)]


def _about_one(asked: argparse.Namespace) -> list[dict[str, Any]]:
    from include.etl import quarantine, quarantine_decisions
    from include.etl.run import prepare, run_source

    run, trigger = prepare(asked.source)
    if not asked.run:
        raise ConfigurationError("--run: nothing named; allowed: a run key that `list` shows")
    if asked.action != "show" and not asked.reason:
        raise ConfigurationError("--reason: nothing given; allowed: a sentence for whoever asks later")
    one = quarantine.one_of(run.storage, asked.source, asked.run)
    report = one.model_dump(mode="json")
    if asked.action == "show":
        report["file"] = str(quarantine.rows_file(run.storage, one))
    elif asked.action == "release":
        done = run_source(asked.source, release=one.run_key, reason=asked.reason)
        report["published_by"] = done.publication.run_id
        report["still_set_aside"] = done.publication.rows.removed.get("quarantined", 0)
    else:
        cli.confirm(asked, f"Delete {one.rows} set-aside rows of {asked.source} for good.")
        quarantine_decisions.drop(run.storage, one, trigger.triggered_by, asked.reason)
    return [report]


def _lines(report: list[dict[str, Any]]) -> list[str]:
    lines = []
    for one in report:
        state = f"released by {one['released_by']}" if one["released_by"] else "set aside"
        lines.append(f"{one['run_key']}: {one['rows']} of {one['of']} rows, {state} ({one['set_aside_at']})")
        lines += [f"    {count} {reason}" for reason, count in one["reasons"].items()]
        lines += [f"    {key}: {one[key]}" for key in ("file", "published_by", "still_set_aside") if key in one]
    return lines or ["nothing is set aside"]


if __name__ == "__main__":
    sys.exit(main())
