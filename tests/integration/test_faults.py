"""Full and read-only disks, servers that restart, networks that break: an error that says so, then all is well."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from include.etl.errors import StorageError, TransientError
from include.etl.handover import Plan, Slice, Window
from include.etl.phases import extract as phase
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage
from tests.integration.conftest import VISITS, Project
from tests.servers import DatabaseServer

INSERT = "INSERT INTO visits VALUES (?, ?, ?, ?, ?)"
ROWS = 60_000


def visits(first: int, count: int, day: int) -> list[tuple[object, ...]]:
    return [
        (n, f"2024-01-{day:02d}", "1.00", os.urandom(24).hex(), f"2024-01-{day:02d} 08:00:{n % 60:02d}")
        for n in range(first, first + count)
    ]


@pytest.fixture
def disk(project: Project) -> Iterator[Path]:
    """A small file system of its own as the data folder."""
    data = project.folder / "data"
    data.mkdir(mode=0o750)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", data], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("FULL DISK IS NOT TESTED: only root may mount a tmpfs")
    data.chmod(0o750)
    try:
        yield data
    finally:
        subprocess.run(["umount", "-l", data], check=True)


def test_full_disk_at_any_moment_is_said_and_loses_nothing(project: Project, disk: Path) -> None:
    """From no room at all to enough: each run ends well or with a StorageError, and readers never see less."""
    project.configure(VISITS.replace("[parquet]", "[parquet, csv]"))
    project.execute(INSERT, visits(0, 300, 1))
    project.run()
    project.execute(INSERT, visits(300, 700, 2))
    seen, outcomes, ballast = set(range(300)), [], disk / "ballast"
    for free in (0, 8, 24, 48, 72, 96, 120, 144, 176, 208, 256, 320, 600):
        usage = shutil.disk_usage(disk)
        with ballast.open("wb") as file:
            file.write(b"x" * (usage.free - free * 1024))
        try:
            project.run(start="2024-01-01", end="2024-01-03T00:00:00Z")
            outcomes.append(True)
            seen = set(range(1000))
        except StorageError:
            outcomes.append(False)
        assert {row[0] for row in project.rows()} >= seen
        ballast.unlink()
        for folder in ("raw", "interim"):
            shutil.rmtree(disk / folder, ignore_errors=True)
    assert outcomes[0] is False
    assert outcomes[-1] is True
    assert [row[0] for row in project.rows()] == list(range(1000))
    assert not list((disk / "staging").glob("*/*"))


def test_read_only_data_folder_is_said(project: Project, disk: Path) -> None:
    project.execute(INSERT, visits(0, 30, 1))
    project.run()
    before = project.files()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(StorageError, match="Read-only file system"):
        project.run()
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert project.files() == before
    project.run()


def test_another_file_system_under_processed_is_refused(project: Project, disk: Path) -> None:
    """Renames work within a file system only; found out before anything is published."""
    project.execute(INSERT, visits(0, 30, 1))
    (disk / "processed").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", disk / "processed"], check=True)
    try:
        with pytest.raises(StorageError, match="one file system"):
            project.run()
        assert not [name for name in project.files() if not name.startswith(".")]
    finally:
        subprocess.run(["umount", "-l", disk / "processed"], check=True)


@pytest.fixture(params=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest, project: Project) -> DatabaseServer:
    """A database server with a table that no socket buffer holds."""
    made: DatabaseServer = request.getfixturevalue(f"{request.param}_server")
    if made.process is None:
        pytest.skip(f"RESTARTS OF {request.param} ARE NOT TESTED: the server is not ours")
    if made.conn_type == "mysql":  # the test server is quick, and forgets the last second when it is killed
        made.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    made.execute("DROP TABLE IF EXISTS big")
    made.execute("CREATE TABLE big (visit_id BIGINT PRIMARY KEY, note CHAR(200), updated_at TIMESTAMP NULL)")
    series = f"generate_series(1, {ROWS}) AS s(i)" if made.conn_type == "postgres" else f"seq_1_to_{ROWS}"
    number = "i" if made.conn_type == "postgres" else "seq"
    made.execute(f"INSERT INTO big SELECT {number}, repeat('x', 200), '2024-01-01 08:00:00' FROM {series}")
    project.configure(
        VISITS.replace("table: visits", "table: big").replace(", partition_by: visit_date", "")
        + "extract: {statement_timeout: 60s, connect_timeout: 5s}\n"
    )
    return made


def extraction(
    monkeypatch: pytest.MonkeyPatch, reached: DatabaseServer
) -> Callable[[Callable[[], object] | None], int]:
    """Reads the table's slice; what is given happens once, when the first rows have been written."""
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", reached.airflow_connection)
    monkeypatch.setattr(phase, "ROW_GROUP_ROWS", 5_000)
    source = load_source("visits")
    window = Window(mode="full", end="2024-02-01T00:00:00Z")
    plan = Plan(run_id="run", window=window)

    def read(fault: Callable[[], object] | None = None) -> int:
        run, pending = Run(source, "run", Storage.from_environment()), [fault] if fault else []
        (run.records / "slices.json").write_text("[{}]")
        return phase.extract(run, plan, Slice(), lambda rows: pending.pop()() if pending else None).rows  # type: ignore[func-returns-value]

    return read


def restart(server: DatabaseServer) -> None:
    """Stop without a goodbye to anybody, and start again."""
    assert server.process is not None
    command, cwd = server.process.args, Path(f"/proc/{server.process.pid}/cwd").resolve()
    if server.conn_type == "postgres":
        server.process.send_signal(signal.SIGQUIT)  # pg_ctl stop -m immediate
        server.process.wait()
    else:
        server.kill()
    with (cwd / "log").open("ab") as log:
        server.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=cwd)
    deadline = time.monotonic() + 30
    while True:
        try:
            server.execute("SELECT 1")
            return
        except Exception:  # noqa: BLE001 - of any driver
            assert time.monotonic() < deadline, (cwd / "log").read_text()[-2000:]
            time.sleep(0.05)


def test_a_server_that_restarts_in_the_middle(server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    read = extraction(monkeypatch, server)
    with pytest.raises(TransientError):
        read(lambda: restart(server))
    assert read(None) == ROWS


@contextmanager
def proxied(server: DatabaseServer, fault: threading.Event) -> Iterator[DatabaseServer]:
    """The server behind a network that breaks when the event is set."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def carry(here: socket.socket, there: socket.socket, guarded: bool) -> None:
            with suppress(OSError):
                while data := here.recv(65_536):
                    if guarded and fault.is_set():
                        break
                    there.sendall(data)
            for one in (here, there):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            here.close()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    upstream = socket.create_connection((server.host, server.port))
                    for pair in ((client, upstream, False), (upstream, client, True)):
                        threading.Thread(target=carry, args=pair, daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield replace(server, port=listener.getsockname()[1])


def test_a_network_that_breaks_in_the_middle(server: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = threading.Event()
    with proxied(server, fault) as reached:
        read = extraction(monkeypatch, reached)
        with pytest.raises(TransientError):
            read(fault.set)
        fault.clear()
        assert read(None) == ROWS
