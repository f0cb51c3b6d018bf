"""Extract sources without a scheduler: the same phases, from the command line.

python scripts/run_extraction.py --list
python scripts/run_extraction.py --sources polyclinic_visits,nehr_diagnoses --last-n-days 7
python scripts/run_extraction.py --sources polyclinic_visits --start 2025-11-01 --end 2025-12-01 --dry-run
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# Airflow reads its settings when it is first imported: the demo's home, and no log lines between those of here.
DEMO_HOME = ROOT / ".airflow"
os.environ.setdefault("AIRFLOW_HOME", str(DEMO_HOME))
os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")

from rich.console import Console  # noqa: E402 - see above
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: E402

from include.etl.errors import ConfigurationError, ExtractionError  # noqa: E402
from include.etl.sources import BrokenSource, load_source, load_sources  # noqa: E402
from scripts import command_line as cli  # noqa: E402

Report = dict[str, Any]
ERRORS = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    return cli.run(_work, _parser().parse_args(arguments))


def _work(asked: argparse.Namespace) -> int:
    if asked.list:
        return _list(asked)
    names = [name.strip() for name in (asked.sources or "").split(",") if name.strip()]
    if not names:
        raise ConfigurationError("--sources: nothing named; allowed: names from --list, separated by commas")
    for name in names:
        load_source(name)
    if not _has_metadata_database():
        raise ConfigurationError(f"no Airflow in {DEMO_HOME} yet: make demo makes it; or set AIRFLOW_HOME to your own")
    work = _preview if asked.dry_run else _extract
    reports = [_one(work, name, asked) for name in names]
    if asked.json:
        cli.say(asked, reports, [])
    return cli.worst([int(report["exit_status"]) for report in reports])


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--sources", help="names separated by commas; run one after the other")
    parser.add_argument("--mode", choices=("incremental", "full", "range"), help="as scheduled by default")
    parser.add_argument("--start", help="first moment to read (ISO date or time, in the source's time zone)")
    parser.add_argument("--end", help="up to here, exclusive; now by default")
    parser.add_argument("--last-n-days", type=int, metavar="N", help="whole days before today, and today so far")
    parser.add_argument("--reason", default="", help="why; kept in the manifest")
    parser.add_argument("--list", action="store_true", help="show the sources")
    parser.add_argument("--dry-run", action="store_true", help="show the window and the SQL; read no rows")
    cli.add_json(parser)
    return parser


def _has_metadata_database() -> bool:
    """Whether there is one to read connections and checkpoints from; other homes than the demo's are trusted."""
    own = os.environ["AIRFLOW_HOME"] != str(DEMO_HOME) or "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" in os.environ
    return own or (DEMO_HOME / "airflow.db").exists()


def _list(asked: argparse.Namespace) -> int:
    sources = load_sources()
    rows = [{"source": source.source, "description": _describe(source)} for source in sources]
    cli.say(asked, rows, [f"{row['source']:<24} {row['description']}" for row in rows])
    return cli.WRONG if any(isinstance(source, BrokenSource) for source in sources) else cli.DONE


def _describe(source: Any) -> str:
    return f"broken: {source.error}" if isinstance(source, BrokenSource) else str(source.description)


def _one(work: Callable[[str, argparse.Namespace], Report], name: str, asked: argparse.Namespace) -> Report:
    """One source; its failure is reported and does not stop the others."""
    try:
        return {"source": name, "exit_status": cli.DONE, **work(name, asked)}
    except ExtractionError as error:
        message, status = str(error), cli.status_of(error)
    except Exception as error:  # noqa: BLE001 - the next source must run; a foreign message may carry row data
        last = traceback.extract_tb(error.__traceback__)[-1]
        message, status = f"unexpected {type(error).__name__} at {last.filename}:{last.lineno}", cli.FAILED
    ERRORS.print(f"{name}: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    return {"source": name, "exit_status": status, "error": message}


def _preview(name: str, asked: argparse.Namespace) -> Report:
    from include.etl.phases.request import Parameters
    from include.etl.run import preview

    parameters = Parameters(asked.mode, asked.start, asked.end, asked.last_n_days, asked.reason)
    planned, sql = preview(name, parameters)
    if not asked.json:
        print(
            f"-- {name}: {planned.window.mode}, {planned.window.label}\n-- its end: {planned.bound.label}\n{sql}\n",
            file=asked.output,
        )
    return {
        "window": planned.window.model_dump(mode="json"),
        "bound": planned.bound.model_dump(mode="json"),
        "sql": sql,
    }


def _extract(name: str, asked: argparse.Namespace) -> Report:
    from include.etl.records.manifest import published_folder
    from include.etl.run import run_source

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[now]}"), TimeElapsedColumn())
    with Progress(*columns, console=ERRORS, disable=not ERRORS.is_terminal) as progress:
        bar = progress.add_task(name, total=None, now="")
        read = 0

        def tell(phase: str, rows: int) -> None:
            nonlocal read
            read += rows if phase == "extract" else 0
            progress.update(bar, now=f"{phase}: {read:,} rows")

        result = run_source(
            name,
            mode=asked.mode,
            start=asked.start,
            end=asked.end,
            last_n_days=asked.last_n_days,
            reason=asked.reason,
            progress=tell,
        )
    if result.published is None:
        if not asked.json:
            print(f"{name}: nothing can be read safely yet: {result.plan.bound.label}", file=asked.output)
        return {"manifest": {}, "bound": result.plan.bound.model_dump(mode="json")}
    done = result.published
    if not asked.json:
        print(
            f"{name}: {done.rows.extracted:,} rows extracted, {done.rows.published:,} published in "
            f"{len(done.files)} files ({done.window.label})",
            file=asked.output,
        )
        print(f"    {published_folder(result.storage, name)}", file=asked.output)
    return {"manifest": result.manifest}


if __name__ == "__main__":
    sys.exit(main())
