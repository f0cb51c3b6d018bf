"""Experiment: the phases on 1, 3 and 10 times the rows. Time should grow with them, memory should not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import exact, flow
from bench.databases import COLUMNS, Database, database, lineitem
from bench.jobs import run
from bench.records import Records

EXPERIMENT = "scale"
FACTORS = (1, 3, 10)
ORDERS = 6_000_000
"""Order keys of scale factor 1 end here; each copy is shifted by as many, so that keys stay unique."""


def scale(scale: float, rounds: int, records: Records) -> None:
    """The flow on copies of lineitem that the server makes itself."""
    with database("postgres") as source:
        source.load("lineitem_1", lineitem(scale))
        for factor in FACTORS[1:]:
            _multiply(source, factor)
        steps = flow.ours()
        jobs = [flow.job(source, EXPERIMENT, f"{n}x", steps, f"lineitem_{n}", _counted) for n in FACTORS]
        run(jobs, rounds, records)


def _multiply(source: Database, factor: int) -> None:
    rest = ", ".join(list(COLUMNS)[1:])
    source.server.execute(f"create unlogged table lineitem_{factor} (like lineitem_1)")
    for copy in range(factor):
        source.server.execute(
            f"insert into lineitem_{factor} select l_orderkey + {copy * ORDERS}, {rest} from lineitem_1"
        )
    source.server.execute(f"vacuum (freeze, analyze) lineitem_{factor}")


def _counted(folder: Path) -> dict[str, Any]:
    import pyarrow.parquet as pq

    paths = exact.parquet_files(folder / "data" / "processed")
    return {"rows": sum(pq.read_metadata(path).num_rows for path in paths)}
