"""How all commands of this folder behave: exit status, JSON on standard output, logs on standard error, questions."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from include.etl.airflow_home import choose_home
from include.etl.errors import ConfigurationError, ExtractionError, TransientError

ROOT = Path(__file__).resolve().parents[1]
DONE, FAILED, WRONG, TRY_AGAIN, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_STATUS = (
    "Exit status: 0 done; 1 something failed, differs or was declined; 2 the request or the configuration is wrong; "
    "3 it may pass: try again; 130 interrupted. The result is on standard output, all else on standard error."
)


class Declined(Exception):
    """A person said no; nothing was changed."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose --help shows the script's docstring and what the exit status means."""
    return argparse.ArgumentParser(description=description, epilog=EXIT_STATUS, formatter_class=_Help)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the docstring, and fills those of the exit status."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text == EXIT_STATUS:
            return argparse.HelpFormatter._fill_text(self, text, width, indent)
        return super()._fill_text(text, width, indent)


def add_json(to: argparse.ArgumentParser) -> None:
    """The option that every command has."""
    to.add_argument("--json", action="store_true", help="print the result as JSON")


def add_yes(to: argparse.ArgumentParser) -> None:
    """The option of every command that replaces or deletes something."""
    to.add_argument("--yes", action="store_true", help="do not ask")


def run(work: Callable[[argparse.Namespace], int], asked: argparse.Namespace) -> int:
    """Do the work; errors become one clear message and the exit status that says what to do next."""
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    choose_home()
    output = sys.stdout
    try:
        with redirect_stdout(sys.stderr):  # where log lines go: only results belong on standard output
            asked.output = output
            return work(asked)
    except Declined as declined:
        message, status = str(declined), FAILED
    except ExtractionError as error:
        message, status = str(error), status_of(error)
    except KeyboardInterrupt:
        message, status = "interrupted", INTERRUPTED
    except Exception as error:  # noqa: BLE001 - its text may hold a row, a password or an address
        message, status = _kind_and_place(error), FAILED
    if getattr(asked, "json", False):
        print(json.dumps({"error": message, "exit_status": status}, indent=2), file=output)
    return fail(message, status)


def _kind_and_place(error: Exception) -> str:
    """What a maintainer needs, and nothing of the values."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT) and ".venv" not in frame.filename]
    place = (own or frames)[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}, in {place.name}"
    return f"unexpected {type(error).__name__} ({where}); its text is not shown, since it may hold data"


def status_of(error: ExtractionError) -> int:
    """The exit status by what to do next."""
    if isinstance(error, ConfigurationError):
        return WRONG
    return TRY_AGAIN if isinstance(error, TransientError) else FAILED


def worst(statuses: Sequence[int]) -> int:
    """One status for several: what a person has to look at counts more than what may pass."""
    return max(statuses, key=(DONE, TRY_AGAIN, FAILED, WRONG).index)


def say(asked: argparse.Namespace, result: Any, lines: Sequence[str]) -> None:
    """Print the result, for machines if so asked."""
    print(json.dumps(result, indent=2, default=str) if asked.json else "\n".join(lines), file=asked.output)


def fail(message: str, status: int) -> int:
    """Say why on standard error; the status."""
    print(message, file=sys.stderr)
    return status


def confirm(asked: argparse.Namespace, told: str) -> None:
    """Ask before something is replaced or deleted.

    Raises:
        ConfigurationError: nobody is there to ask, and --yes is not given.
        Declined: the answer is not yes.
    """
    if asked.yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError("--yes: not given, and there is no terminal to ask on; nothing was changed")
    print(f"{told}\nGo on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Declined("nothing was changed")
