"""What the numbers were measured on: nothing that names the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from bench.environments import BENCH, WORK

PACKAGES = ("apache-airflow", "pyarrow", "duckdb", "pandas", "great-expectations", "psycopg2-binary", "pymysql")
SERVERS = ("/usr/lib/postgresql/*/bin/postgres", "/usr/sbin/mariadbd")


def machine() -> dict[str, str]:
    """Label -> value."""
    return {
        "cores": f"{os.cpu_count()} ({_field('/proc/cpuinfo', 'model name')})",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB",
        "system": f"{_field('/etc/os-release', 'PRETTY_NAME', '=')}, Linux {platform.release()}",
        "Python": platform.python_version(),
        "servers": "; ".join(_servers()),
        "project": _project(),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "peers": ", ".join(sorted(set(_peers()))),
    }


def _field(path: str, name: str, separator: str = ":") -> str:
    lines = Path(path).read_text().splitlines()
    found = [line.partition(separator)[2].strip(' "') for line in lines if line.startswith(name)]
    return found[0] if found else "unknown"


def _servers() -> list[str]:
    binaries = [path for pattern in SERVERS for path in sorted(Path("/").glob(pattern[1:]))]
    said = [subprocess.run([path, "--version"], capture_output=True, text=True).stdout.strip() for path in binaries]
    return [text.rpartition("/")[2] if text.startswith("/") else text for text in said]


def _project() -> str:
    done = subprocess.run(["git", "log", "-1", "--format=%h of %cs"], cwd=BENCH, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _peers() -> list[str]:
    """Versions of the packages that the requirements files name, as they are installed."""
    found = []
    for requirements in BENCH.glob("requirements-*.txt"):
        folder = WORK / "venv" / requirements.stem.removeprefix("requirements-")
        for line in requirements.read_text().split():
            name = line.partition("[")[0].partition("=")[0].replace("-", "_")
            for info in folder.glob(f"lib/*/site-packages/{name}-*.dist-info"):
                found.append(info.name.removesuffix(".dist-info").replace("-", " ").replace("_", "-"))
    return found
