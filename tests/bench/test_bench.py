"""The benchmarks still run: our reader, the raw drain and the flow on a small table, without any peer's environment."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from bench import exact, flow, jobs, readers
from bench.contenders import CONTENDERS, Contender
from bench.databases import COLUMNS, Database
from bench.measure import ROOT, measure
from bench.records import Records
from bench.summary import Results
from bench.targets import targets
from tests.servers import DatabaseServer

ROWS = 6_000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no reason to run a test thrice, or to wait for a lock."""
    monkeypatch.setattr(jobs, "REPEATS", 0)
    monkeypatch.delenv("BENCH_LOCK", raising=False)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file in the shape of lineitem; the generator of the real one is a peer's package."""
    path, draw = tmp_path_factory.mktemp("tpch") / "lineitem.csv", random.Random(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number in range(ROWS):
            money = [f"{draw.randint(100, 5_000) / 100:.2f}" for _ in range(4)]
            days = [date(1992, 1, 1) + timedelta(draw.randint(0, 2_000)) for _ in range(3)]
            texts = [draw.choice("ANR"), "O", *days, "NONE", draw.choice(["AIR", "MAIL"]), f'a "quoted", {number} ']
            writer.writerow([number // 4, draw.randint(1, 9), draw.randint(1, 9), number % 4, *money, *texts])
    return path


@pytest.fixture(scope="module", params=["postgres", "mysql"])
def source(request: pytest.FixtureRequest, rows: Path) -> Database:
    server: DatabaseServer = request.getfixturevalue(
        f"{'postgres' if request.param == 'postgres' else 'mariadb'}_server"
    )
    loaded = Database(request.param, server)
    server.execute("drop table if exists bench_rows")
    loaded.load("bench_rows", rows)
    return loaded


def contender(name: str) -> Contender:
    return next(found for found in CONTENDERS if found.name == name)


@pytest.mark.postgres
@pytest.mark.mariadb
def test_our_reader_is_exact_and_the_drain_keeps_nothing(
    source: Database, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "WORK", tmp_path)
    truth, records = exact.found(rows), Records(tmp_path / "results.jsonl")
    chosen = [contender("ours"), contender("raw drain")]
    todo = [readers.job(source, one, sys.executable, "bench_rows", truth) for one in chosen]
    jobs.run(todo, 1, records)
    ours, drain = (list(records.of("readers"))[number] for number in (0, 1))
    assert ours["error"] is None
    assert drain["error"] is None
    assert (ours["rows"], ours["other_types"], ours["same_values"]) == (ROWS, {}, True)
    assert ours["seconds"] > ours["inside_seconds"] > 0
    assert ours["steps"]["read"]["memory_mb"] > 5
    assert ours["steps"]["read"]["cpu"] > 0
    lines = (tmp_path / "results.jsonl").read_text()
    jobs.run(todo, 1, records)
    assert (tmp_path / "results.jsonl").read_text() == lines, "what is there is not measured again"


@pytest.mark.postgres
def test_the_whole_flow_publishes_what_the_database_holds(
    postgres_server: DatabaseServer, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "WORK", tmp_path)
    source, records = Database("postgres", postgres_server), Records(tmp_path / "results.jsonl")
    postgres_server.execute("drop table if exists bench_flow")
    source.load("bench_flow", rows)
    check = flow.published(exact.found(rows, trimmed=True))
    jobs.run([flow.job(source, "flow", "ours", flow.ours(), "bench_flow", check)], 1, records)
    (done,) = records.of("flow")
    assert done["error"] is None
    assert (done["rows"], done["other_types"], done["same_values"]) == (ROWS, {}, True)
    assert list(done["steps"]) == list(flow.PHASES)
    assert (
        done["seconds"]
        > done["inside_seconds"]
        == pytest.approx(sum(step["inside_seconds"] for step in done["steps"].values()))
    )


def test_a_value_or_a_type_that_differs_is_found(rows: Path, tmp_path: Path) -> None:
    import duckdb

    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    table = f"read_csv('{rows}', header = true, columns = {{{columns}}})"
    changed = {"types": "l_tax::double as l_tax", "values": "case l_orderkey when 7 then 0 else l_tax end as l_tax"}
    truth, connection = exact.found(rows), duckdb.connect()
    for what, expression in changed.items():
        (tmp_path / what).mkdir()
        connection.execute(f"copy (select * replace ({expression}) from {table}) to '{tmp_path / what}/x.parquet'")
    types, values = (exact.compared(tmp_path / what, truth) for what in changed)
    assert (types["other_types"], types["same_values"]) == ({"l_tax": "DOUBLE"}, True)
    assert values["same_values"] is False


def test_a_child_counts_and_a_failure_is_told() -> None:
    burn = "sum(range(30_000_000))"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{burn}; x = bytearray(200 << 20)'])"
    cost = measure([sys.executable, "-c", child], {})
    assert cost.error is None
    assert cost.cpu > 0.2
    assert cost.memory_mb > 200
    failed = measure([sys.executable, "-c", f"raise SystemExit('no such file: {ROOT}/x')"], {})
    assert failed.error == "exit 1: no such file: ./x"


def test_a_stopped_benchmark_ends_at_once_and_leaves_no_process(tmp_path: Path) -> None:
    """Or else it would hold the machine's lock until the time limit of the run that it had begun."""
    told = tmp_path / "child"
    child = f"import os, time; open({str(told)!r}, 'x').write(str(os.getpid())); time.sleep(600)"
    stopped = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); "
    script = f"{stopped}from bench.measure import measure; measure([sys.executable, '-c', {child!r}], {{}})"
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as harness:
        while not (told.exists() and told.read_text()):
            assert harness.poll() is None
            time.sleep(0.01)
        harness.terminate()
        try:
            assert harness.wait(20) == 3
        finally:
            harness.kill()
    assert not Path(f"/proc/{told.read_text()}").exists()


def test_targets_are_judged_by_medians_and_by_exact_peers_only(tmp_path: Path) -> None:
    records = Records(tmp_path / "results.jsonl")
    walls = {"ours": [10, 8, 9], "raw drain": [6, 6, 30], "fast": [5, 5, 5], "exact": [18, 12, 18]}
    for name, seconds in walls.items():
        for number, value in enumerate(seconds, 1):
            key = {"experiment": "readers", "engine": "postgres", "name": name, "round": number}
            differing = {"l_tax": "DOUBLE"} if name == "fast" else {}
            steps = {"read": {"seconds": value, "cpu": 1, "server_cpu": 1, "memory_mb": 1}}
            records.append({**key, "seconds": value, "error": None, "steps": steps, "other_types": differing})
    found = {target.what: target for target in targets(Results(records))}
    fastest = found["PostgreSQL: faster than every exact peer (exact)"]
    assert (fastest.reached, fastest.verdict) == ("0.50x (9.0 against 18.0)", "**yes**, 2.00x better")
    drain = found["PostgreSQL against the raw COPY drain, whole process"]
    assert (drain.reached, drain.verdict) == ("1.50x (9.0 against 6.0)", "**no**, 1.20x the limit")
    assert found["1,000 sources parsed"].verdict == "not measured"
