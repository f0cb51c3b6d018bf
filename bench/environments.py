"""A virtual environment per peer, made by uv below bench/.work, so that none of them touches the project's lock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent
WORK = Path(os.environ.get("BENCH_WORK") or BENCH / ".work")


def python_of(name: str | None) -> str:
    """The Python of an environment, made from bench/requirements-<name>.txt if need be; None is the project's own.

    Raises:
        subprocess.CalledProcessError: its packages cannot be installed here.
    """
    if name is None:
        return sys.executable
    requirements, folder = BENCH / f"requirements-{name}.txt", WORK / "venv" / name
    made = folder / "made-from.txt"
    if not made.exists() or made.read_text() != requirements.read_text():
        print(f"making the environment of {name}", flush=True)
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        python = ["--python", str(folder / "bin" / "python")]
        subprocess.run([uv, "pip", "install", "--quiet", "--compile-bytecode", *python, "-r", requirements], check=True)
        shutil.copy(requirements, made)
    return str(folder / "bin" / "python")
