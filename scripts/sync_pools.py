"""Make the Airflow pool of every database in include/sources; pools that exist keep their slots.

python scripts/sync_pools.py
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from include.etl.config import Source
from include.etl.errors import StorageError
from include.etl.sources import BrokenSource, load_sources
from scripts import command_line as cli

SLOTS = 5
Pools = dict[str, dict[str, Any]]


def wanted_pools(sources: Iterable[Source | BrokenSource]) -> Pools:
    """The pools that the sources name, in the form that `airflow pools import` reads; broken sources name none."""
    names = sorted({source.pool_name for source in sources if isinstance(source, Source)})
    return {name: {"slots": SLOTS, "description": f"Tasks that read {name} at the same time"} for name in names}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    parser = cli.parser(__doc__)
    cli.add_json(parser)
    return cli.run(_work, parser.parse_args(arguments))


def _work(asked: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pools.json"
        _airflow("pools", "export", str(file))
        existing = json.loads(file.read_text())
        missing = {name: pool for name, pool in wanted_pools(load_sources()).items() if name not in existing}
        file.write_text(json.dumps(missing))
        if missing:
            _airflow("pools", "import", str(file))
    cli.say(asked, {"made": sorted(missing)}, [f"pools made: {', '.join(missing) or 'none, all exist'}"])
    return cli.DONE


def _airflow(*arguments: str) -> None:
    """Run the airflow command beside this Python, else the one on PATH. What it says may hold a password."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = shutil.which("airflow", path=path) or "airflow"
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise StorageError(
            f"airflow {' '.join(arguments)} exited {done.returncode}; run it by hand: its text may hold a password"
        )


if __name__ == "__main__":
    sys.exit(main())
