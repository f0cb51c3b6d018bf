"""Write the help texts of all commands into docs/command-line.md.

python scripts/write_help.py
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts import command_line as cli

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "command-line.md"
BEGIN = "<!-- Below: written by scripts/write_help.py -->"


def commands() -> list[str]:
    """The scripts that a person runs, by name."""
    found = (path for path in sorted((ROOT / "scripts").glob("*.py")) if path.name != "command_line.py")
    return [path.stem for path in found if "cli.parser(" in path.read_text(encoding="utf-8")]


def help_text(name: str, *words: str) -> str:
    """What the command prints with --help, on a terminal 100 columns wide."""
    printed, typed = io.StringIO(), [f"scripts/{name}.py"]
    with mock.patch.object(sys, "argv", typed), mock.patch.dict(os.environ, {"COLUMNS": "100"}):
        module = importlib.import_module(f"scripts.{name}")
        with redirect_stdout(printed), suppress(SystemExit):
            module.main([*words, "--help"])
    return printed.getvalue().strip()


def page_text() -> str:
    """The page: what people wrote stays, the help texts below it are as they are now."""
    written = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    parts = [f"## {name}.py\n\n```text\n{text}\n```\n" for name in commands() for text in [_all_help(name)]]
    return f"{written}{BEGIN}\n\n" + "\n".join(parts)


def _all_help(name: str) -> str:
    return "\n\n".join(dict.fromkeys([help_text(name), *_of_subcommands(name)]))


def _of_subcommands(name: str) -> Iterator[str]:
    """The options of each subcommand, without what its parent has said already."""
    found = re.search(r"\{(\S+)\}", help_text(name).partition("\n\n")[0])
    for word in found.group(1).split(",") if found else ():
        text = help_text(name, word)
        if text.startswith(f"usage: {name}.py {word} "):
            yield text


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    parser = cli.parser(__doc__)
    cli.add_json(parser)
    return cli.run(_work, parser.parse_args(arguments))


def _work(asked: argparse.Namespace) -> int:
    PAGE.write_text(page_text(), encoding="utf-8")
    name = str(PAGE.relative_to(ROOT))
    cli.say(asked, {"written": name, "commands": commands()}, [f"written: {name}"])
    return cli.DONE


if __name__ == "__main__":
    sys.exit(main())
