"""What another process does beside the test; it imports little, so that it starts quickly."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from include.etl.records.run import Run, measured
from include.etl.sources import load_source
from include.etl.storage import Storage


def hold(data: Path, holder: str, line: Any) -> None:
    """Another process, or another machine with the same folder, in the middle of publishing."""
    with Storage(data).lock("visits", holder):
        line.send("held")
        line.poll(30)


def die_in_extract(folder: Path) -> None:
    os.environ["ETL_INCLUDE"], os.environ["ETL_DATA_URI"] = str(folder), str(folder / "data")
    with measured(Run(load_source("visits"), "killed", Storage.from_environment(), "visits"), "extract", "-0000"):
        os.kill(os.getpid(), signal.SIGKILL)
