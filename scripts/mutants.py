"""Puts one-line faults into critical modules, one at a time, and lists those that no test notices: `make mutants`.

mutmut makes the faults and runs, for each, the tests that reach its function. Which test files judge a module stands in
JUDGES: those that are about it, so that a fault takes about a second. What a run leaves lies below `.mutants/<module>`;
`survivors.diff` there has the faults that nothing has noticed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".mutants"
COPIED = ("include", "tests", "dags", "plugins", "scripts", "docs", "demo", "pyproject.toml", "Makefile")
ETL, INTEGRATION = "tests/unit/etl", "tests/integration"
PUBLICATION = [
    f"{INTEGRATION}/test_{name}.py" for name in ("lookback_edges", "publication", "merge", "deletes", "unfinished")
]
JUDGES: Mapping[str, list[str]] = {
    "phases/request": [f"{ETL}/test_plan.py", f"{ETL}/test_horizon.py"],
    "phases/plan": [f"{ETL}/test_{name}.py" for name in ("plan", "plan_of_a_source", "horizon", "numbers")],
    "phases/extract": [f"{INTEGRATION}/test_several_parts.py", f"{INTEGRATION}/test_boundaries.py"],
    "horizon": [f"{ETL}/test_bound.py", f"{ETL}/test_horizon.py", f"{ETL}/test_plan.py"],
    "cursor": [f"{ETL}/test_cursor.py", f"{ETL}/test_row_versions.py"],
    "numbers": [f"{ETL}/test_numbers.py", f"{ETL}/test_windows_of_numbers.py", f"{INTEGRATION}/test_numbers.py"],
    "row_versions": [f"{ETL}/test_row_versions.py"],
    "slices": [f"{ETL}/test_slices.py", f"{INTEGRATION}/test_slices.py"],
    "query": [f"{ETL}/test_query.py", f"{INTEGRATION}/test_boundaries.py"],
    "records/checkpoint": ["tests/unit/records", f"{INTEGRATION}/test_checkpoints.py"],
    "completeness/checksums": ["tests/unit/completeness", f"{INTEGRATION}/test_completeness.py"],
    "completeness/extraction": ["tests/unit/completeness", f"{INTEGRATION}/test_completeness.py"],
    "completeness/publication": [
        "tests/unit/completeness",
        "tests/unit/publication",
        f"{INTEGRATION}/test_completeness.py",
    ],
    "completeness/replaced": [f"{INTEGRATION}/test_completeness.py", *PUBLICATION],
    "completeness/totals": ["tests/unit/completeness", f"{INTEGRATION}/test_completeness.py"],
    "completeness/transformation": ["tests/unit/completeness", f"{INTEGRATION}/test_completeness.py"],
    "completeness/versions": [f"{INTEGRATION}/test_verify.py"],
    "publication/added": PUBLICATION,
    "publication/deletes": PUBLICATION,
    "publication/files": ["tests/unit/publication", *PUBLICATION, f"{INTEGRATION}/test_schema_changes.py"],
    "publication/journal": ["tests/unit/publication/test_journal.py"],
    "publication/keys": PUBLICATION,
    "publication/merge": PUBLICATION,
    "publication/overlap": PUBLICATION,
    "publication/prepare": PUBLICATION,
    "publication/rows": [*PUBLICATION, f"{INTEGRATION}/test_schema_changes.py"],
    "publication/schema": [f"{ETL}/test_schema.py", f"{INTEGRATION}/test_schema_changes.py"],
    "publication/standing": ["tests/unit/publication/test_journal.py"],
    "publication/unfinished": PUBLICATION,
    "quarantine": [f"{INTEGRATION}/test_quarantine.py"],
    "quarantine_decisions": [f"{INTEGRATION}/test_quarantine.py"],
    "alerts/conditions": [
        f"{ETL}/test_findings_of_a_run.py",
        f"{ETL}/test_alert_conditions.py",
        f"{INTEGRATION}/test_alerts.py",
    ],
    "alerts/deviation": [f"{ETL}/test_alert_conditions.py", f"{INTEGRATION}/test_alerts.py"],
    "alerts/freshness": [f"{INTEGRATION}/test_freshness.py"],
    "alerts/memory": [
        f"{ETL}/test_findings_of_a_run.py",
        f"{ETL}/test_alert_conditions.py",
        f"{INTEGRATION}/test_alerts.py",
    ],
    "maintenance/due": [f"{INTEGRATION}/test_maintenance.py"],
    "maintenance/policy": [f"{INTEGRATION}/test_maintenance.py"],
    "maintenance/removal": [f"{INTEGRATION}/test_maintenance.py"],
    "recovery/checkpoints": [f"{INTEGRATION}/test_recovery.py"],
    "recovery/damage": [f"{ETL}/test_damage.py"],
    "recovery/source": [f"{INTEGRATION}/test_recovery.py"],
    "recovery/spans": [f"{ETL}/test_spans.py"],
    "engines/mssql_writers": ["tests/unit/engines"],
    "engines/mysql_writers": ["tests/unit/engines"],
    "engines/oracle_writers": ["tests/unit/engines"],
    "engines/postgres_writers": ["tests/unit/engines"],
}
# What is written into a log, and how an error is worded, is not what a run does; which error it is, is.
SETTINGS = r"""[mutmut]
source_paths=include
only_mutate=include/etl/{module}.py
do_not_mutate_patterns=
    ^\s*raise \w+
    ^\s*log\.\w+\(
    ^\s*assert \w+
also_copy=
    {copied}
pytest_add_cli_args=
    --timeout=60
pytest_add_cli_args_test_selection=
    {tests}
"""


def main() -> int:
    """Judge the modules that were named, or all."""
    parser = argparse.ArgumentParser(description="Put one-line faults into the code, and see whether a test fails.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as phases/request; default: all")
    parser.add_argument("--number", type=int, help="so many faults of each module, drawn by chance")
    parser.add_argument("--again", action="store_true", help="only what has survived the last time")
    asked = parser.parse_args()
    if unknown := set(asked.modules) - JUDGES.keys():
        parser.error(f"{', '.join(sorted(unknown))}: allowed: {', '.join(JUDGES)}")
    survived = 0
    for module in asked.modules or JUDGES:
        survived += judge(module, asked.number, again=asked.again)
    return 1 if survived else 0


def judge(module: str, number: int | None, *, again: bool) -> int:
    """Put the faults into one module; how many of them nothing has noticed."""
    folder = WORK / module.replace("/", ".")
    names = survivors(read_outcomes(folder, module)) if again else []
    prepare(folder, module)
    if number is not None and not again:
        mutmut(folder, "run", "--max-children", "1", "none*")  # only makes them
        known = list(read_outcomes(folder, module))
        names = random.Random(module).sample(known, min(number, len(known)))  # noqa: S311
    if not again or names:
        mutmut(folder, "run", "--max-children", "1", *names)
    found = {name: code for name, code in read_outcomes(folder, module).items() if code is not None}
    left = survivors(found)
    (folder / "survivors.diff").write_text(shown(folder, left), encoding="utf-8")
    print(f"{module}: {len(found)} faults, {len(found) - len(left)} caught, {len(left)} survived", flush=True)
    return len(left)


def prepare(folder: Path, module: str) -> None:
    """A copy of the project, since mutmut works where it is called."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "data"))
        else:
            shutil.copy2(source, target)
    copied = [name for name in COPIED if name not in ("include", "tests", "pyproject.toml")]
    (folder / "setup.cfg").write_text(
        SETTINGS.format(module=module, copied="\n    ".join(copied), tests="\n    ".join(JUDGES[module])),
        encoding="utf-8",
    )


def mutmut(folder: Path, *arguments: str) -> str:
    """What it says; what it shows while it runs goes into a file."""
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if arguments[0] == "run":
        (folder / "run.log").write_text(done.stdout.replace("\r", "\n") + done.stderr, encoding="utf-8")
    return done.stdout


def shown(folder: Path, names: list[str]) -> str:
    """What these faults change, by one process for all."""
    loop = (
        "import sys; from mutmut.__main__ import cli; [cli(['show', n], standalone_mode=False) for n in sys.argv[1:]]"
    )
    command = [sys.executable, "-c", loop, *names]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def read_outcomes(folder: Path, module: str) -> dict[str, int | None]:
    """Each fault's exit code of pytest: 0 where no test has failed, None where it was not tried."""
    path = folder / "mutants" / "include" / "etl" / f"{module}.py.meta"
    if not path.exists():
        sys.exit(f"{module}: mutmut has made no faults; see {folder / 'run.log'}")
    outcomes: dict[str, int | None] = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return outcomes


def survivors(outcomes: Mapping[str, int | None]) -> list[str]:
    """Those that no test has noticed, or reached (33, 5: pytest had no test to run)."""
    return [name for name, code in outcomes.items() if code in (0, 5, 33)]


if __name__ == "__main__":
    sys.exit(main())
