"""Check again what a source has published: files against manifests, rows against the source as it is now.

    python scripts/verify.py polyclinic_visits
    python scripts/verify.py polyclinic_visits --window all --json

Reads only. docs/verify.md says what is compared with what, and when the source may hold fewer rows. Exit status 3:
something could not be checked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts import command_line as cli

if TYPE_CHECKING:
    from include.etl.verify import Finding


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    return cli.run(_work, _parser().parse_args(arguments))


def _work(asked: argparse.Namespace) -> int:
    findings = _verify(asked.source, asked.window)
    reports = [{**asdict(found), "verdict": found.verdict} for found in findings]
    cli.say(asked, {"source": asked.source, "windows": reports}, _lines(findings))
    verdicts = {found.verdict for found in findings}
    return cli.FAILED if "different" in verdicts else cli.TRY_AGAIN if "not checked" in verdicts else cli.DONE


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("source", help="name of the source")
    parser.add_argument("--window", default="latest", help="a manifest's name, latest (as if left out) or all")
    cli.add_json(parser)
    return parser


def _verify(source: str, window: str) -> list[Finding]:
    from include.etl.run import prepare
    from include.etl.verify import verify

    run, _ = prepare(source)
    return verify(run, window)


def _lines(findings: Sequence[Finding]) -> list[str]:
    lines = []
    for found in findings:
        lines.append(f"{found.window}: {found.verdict}")
        lines += [f"    {line}" for line in (*found.differences, *found.unchecked, *found.notes)]
    return lines


if __name__ == "__main__":
    sys.exit(main())
