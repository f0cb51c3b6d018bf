"""Sling: the package on PyPI downloads the program from GitHub when it is first used."""

import subprocess
from pathlib import Path

from bench.place import Place


def postgres(place: Place, folder: Path) -> None:
    read(place.url("postgresql"), f"public.{place.table}", folder)


def mysql(place: Place, folder: Path) -> None:
    read(place.url("mysql"), f"{place.database}.{place.table}", folder)


def read(url: str, stream: str, folder: Path) -> None:
    from sling.bin import SLING_BIN

    target = f"file://{folder}/rows.parquet"
    subprocess.run([SLING_BIN, "run", "--src-conn", url, "--src-stream", stream, "--tgt-object", target], check=True)
