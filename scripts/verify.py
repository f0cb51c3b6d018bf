"""Check again what a source has published: files against manifests, rows against the source as it is now.

    python scripts/verify.py polyclinic_visits
    python scripts/verify.py polyclinic_visits --window all --json

Reads only. docs/verify.md says what is compared with what, and when the source may hold fewer rows.
Exit status: 0 verified, 1 something differs, 2 wrong request or configuration, 3 something could not be checked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("AIRFLOW_HOME", str(ROOT / ".airflow"))
os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")

from include.etl.errors import ConfigurationError, ExtractionError  # noqa: E402 - see above

if TYPE_CHECKING:
    from include.etl.verify import Finding

OK, DIFFERENT, WRONG, UNCHECKED = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    asked = _parser().parse_args(arguments)
    try:
        with redirect_stdout(sys.stderr):  # where log lines go: only results belong on standard output
            findings = _verify(asked.source, asked.window)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return WRONG
    except ExtractionError as error:
        print(error, file=sys.stderr)
        return UNCHECKED
    if asked.json:
        reports = [{**asdict(found), "verdict": found.verdict} for found in findings]
        print(json.dumps({"source": asked.source, "windows": reports}, indent=2))
    else:
        _print(findings)
    verdicts = {found.verdict for found in findings}
    return DIFFERENT if "different" in verdicts else UNCHECKED if "not checked" in verdicts else OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="name of the source")
    parser.add_argument("--window", default="latest", help="a manifest's name, latest (as if left out) or all")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser


def _verify(source: str, window: str) -> list[Finding]:
    from include.etl.run import prepare
    from include.etl.verify import verify

    run, _ = prepare(source)
    return verify(run, window)


def _print(findings: Sequence[Finding]) -> None:
    for found in findings:
        print(f"{found.window}: {found.verdict}")
        for line in (*found.differences, *found.unchecked, *found.notes):
            print(f"    {line}")


if __name__ == "__main__":
    sys.exit(main())
