"""Experiment: columns that are easily falsified. lineitem has none of them, clinical databases have.

Each is a table of its own with one value and a NULL, and the key of lineitem, which some readers are told. Every
contender reads it. A value that comes back as another one in silence is what is looked for; a refusal is only told.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from bench import exact
from bench.contenders import CONTENDERS
from bench.databases import Database, database
from bench.environments import WORK, python_of
from bench.measure import measure
from bench.records import Records

EXPERIMENT = "types"
BIG_JSON = '{"n": 12345678901234567890.123}'
PROBES = {
    "postgres": [
        ("bigint beside NULL", "bigint", "9007199254740993", ["9007199254740993"]),
        ("numeric(38,10)", "numeric(38,10)", "1234567890123456789012345678.0123456789", None),
        ("numeric(20,15)", "numeric(20,15)", "1.123456789012345", None),
        ("numeric without limits", "numeric", "12345678901234567890.123456789", None),
        ("timestamp with time zone", "timestamptz", "2024-03-31 01:30:00.123456+02", ["2024-03-30 23:30:00.123456+00"]),
        ("time with time zone", "timetz", "12:00:00+05:30", ["12:00:00+05:30"]),
        ("interval", "interval", "1 year 2 months 3 days", ["1 year 2 months 3 days", "P1Y2M3D"]),
        ("jsonb", "jsonb", BIG_JSON, [BIG_JSON, BIG_JSON.replace(" ", "")]),
    ],
    "mysql": [
        ("bigint unsigned", "bigint unsigned", "18446744073709551615", None),
        ("decimal(20,15)", "decimal(20,15)", "1.123456789012345", None),
        ("decimal(65,30)", "decimal(65,30)", "1234567890123456789012345678901234.123456789012345678901234567890", None),
        ("float", "float", "16777215", ["16777215", "16777215.0"]),
        ("time", "time", "-838:59:59", None),
        ("tinyint(1)", "tinyint(1)", "2", None),
        ("timestamp", "timestamp null", "2024-03-30 23:30:00", ["2024-03-30 23:30:00+00"]),
        ("json", "json", BIG_JSON, [BIG_JSON, BIG_JSON.replace(" ", "")]),
    ],
}
"""What, its type, a value, and the texts that are the same value (its own where nothing else is)."""


def probes(engine: str, records: Records) -> None:
    """Every contender on every probe; once, since nothing is timed."""
    with database(engine) as source:
        for number, (_, kind, value, _) in enumerate(PROBES[engine]):
            source.server.execute(f"create table probe_{number} (l_orderkey int primary key, value {kind})")
            source.server.execute(f"insert into probe_{number} values (1, '{value}'), (2, null)")
        for contender in CONTENDERS:
            key = {"experiment": EXPERIMENT, "engine": engine, "name": contender.name, "round": 1}
            if engine in contender.engines and contender.role != "limit" and not records.has(key):
                python = python_of(contender.environment)
                results = {
                    probe[0]: _probe(source, [python, "-m", "bench.contenders", contender.module], number, probe)
                    for number, probe in enumerate(PROBES[engine])
                }
                records.append({**key, "probes": results})
                print(f"{engine} {contender.name}: {results}", flush=True)


def _probe(source: Database, command: list[str], number: int, probe: Any) -> str:
    """`exact`, `refused`, or what the value became."""
    folder = WORK / "target"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    place = source.place(f"probe_{number}").environment()
    if measure([*command, str(folder)], place).error:
        return "refused"
    _, _, value, accepted = probe
    read = measure([sys.executable, "-m", "bench.probes", str(folder)], {})
    got, missing = read.output.split("\n") if read.output.count("\n") == 1 else (read.output or "nothing", "None")
    shutil.rmtree(folder)
    if missing != "None":
        return f"NULL became {missing}"
    return "exact" if got in (accepted or [value]) else got


def _values(folder: Path) -> list[Any]:
    import duckdb

    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    paths = [str(path) for path in exact.parquet_files(folder)]
    rows = connection.read_parquet(paths, hive_partitioning=False)
    return [value for (value,) in rows.order("l_orderkey").project("value::varchar").fetchall()]


if __name__ == "__main__":
    print(*_values(Path(sys.argv[1])), sep="\n")
