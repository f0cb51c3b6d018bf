"""Experiment: rows of a megabyte. What one batch may take has to be counted in bytes, not only in rows."""

from __future__ import annotations

import sys

from bench.databases import database
from bench.environments import WORK
from bench.jobs import Job, run
from bench.records import Records

EXPERIMENT = "wide"
ROWS = 2_000
TABLES = {
    "postgres": ["create table wide as select id, repeat(md5(id::text), 32768) as body from generate_series(1, {}) id"],
    "mysql": [
        "create table wide (id int primary key, body longtext not null)",
        "insert into wide select seq, repeat(md5(seq), 32768) from seq_1_to_{}",
    ],
}


def wide(engine: str, rounds: int, records: Records) -> None:
    """Our extract phase on rows of 1 MiB of text."""
    with database(engine) as source:
        for statement in TABLES[engine]:
            source.server.execute(statement.format(ROWS))
        target = WORK / "target"
        command = [sys.executable, "-m", "bench.contenders", "ours", str(target)]
        place = source.place("wide").environment()
        run([Job(EXPERIMENT, engine, "ours", {"extract": command}, place, target, source.pid)], rounds, records)
