"""Whether what a contender wrote is what the database holds: rows, types, and every value.

Values are compared by a sum of hashes, which no order of rows changes, after casting to the exact types: so a decimal
that became a float and still has its value counts as another type, not as another value.

python -m bench.exact <CSV file or folder of Parquet files> <trim | as it is> prints JSON, in a process of its own,
since the memory of the one that measures counts in what it measures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.databases import COLUMNS


def found(rows: Path, *, trimmed: bool = False) -> dict[str, Any]:
    """Rows, bytes, types and hash of a file or folder; of texts without spaces around them, if asked for."""
    command = [sys.executable, "-m", "bench.exact", str(rows), "trim" if trimmed else "as it is"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def compared(folder: Path, truth: dict[str, Any]) -> dict[str, Any]:
    """What a contender wrote against the truth."""
    mine = found(folder)
    types = {name: mine["types"].get(name, "missing") for name in COLUMNS}
    return {
        "rows": mine["rows"],
        "bytes": mine["bytes"],
        "other_types": {name: kind for name, kind in types.items() if kind != truth["types"][name]},
        "same_values": (mine["rows"], mine["hash"]) == (truth["rows"], truth["hash"]),
    }


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files that hold rows; tools keep their own records in folders with a dot or an underscore."""
    paths = sorted(folder.rglob("*.parquet"))
    return [path for path in paths if not any(part[0] in "._" for part in path.relative_to(folder).parts)]


def _look(rows: Path, trimmed: bool) -> dict[str, Any]:
    import duckdb

    paths = [rows] if rows.is_file() else parquet_files(rows)
    listed = ", ".join(f"'{path}'" for path in paths)
    table = f"read_parquet([{listed}], hive_partitioning = false)"
    if rows.is_file():
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
        table = f"read_csv('{rows}', header = true, columns = {{{columns}}})"
    connection = duckdb.connect(config={"memory_limit": "2GB", "threads": 2})
    types = {name: kind for name, kind, *_ in connection.execute(f"describe select * from {table}").fetchall()}
    kept = {name: kind for name, kind in COLUMNS.items() if name in types}
    values = ", ".join(
        f"trim({name})" if trimmed and "char" in kind else f"cast({name} as {kind})" for name, kind in kept.items()
    )
    count, total = connection.execute(f"select count(*), sum(hash({values}))::varchar from {table}").fetchall()[0]
    return {"rows": count, "bytes": sum(path.stat().st_size for path in paths), "types": types, "hash": total}


if __name__ == "__main__":
    print(json.dumps(_look(Path(sys.argv[1]), sys.argv[2] == "trim")))
