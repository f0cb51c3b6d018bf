"""A complete small Airflow on this machine: for `make demo`, `make ui` and the end-to-end tests.

Scheduler (LocalExecutor), DAG processor and API server are processes of this one, and end with it. Metadata database,
settings, secrets and logs lie in one home folder. Everyone who reaches the page is its administrator, so it listens
on 127.0.0.1 only. Nothing here is meant for production: see docker-compose.yaml for that shape.
"""

from __future__ import annotations

import base64
import configparser
import fcntl
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts.airflow_api import AirflowApi
from scripts.lifeline import Lifeline

ROOT = Path(__file__).resolve().parents[1]
COMPONENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
}
LOCK_TIMEOUT_S = 15.0
# Fernet asks for 32 bytes in URL-safe base64; the others are text that nobody can guess.
SECRETS: dict[tuple[str, str], Callable[[], str]] = {
    ("core", "fernet_key"): lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    ("api", "secret_key"): lambda: secrets.token_hex(32),
    ("api_auth", "jwt_secret"): lambda: secrets.token_hex(32),
}


class LocalAirflowError(RuntimeError):
    """Airflow did not start, or died; the message ends with the end of the log that says why."""


class LocalAirflow:
    """`with LocalAirflow(home) as airflow: airflow.api.trigger(...)`.

    `environment` is added to that of all processes (AIRFLOW_CONN_*, AIRFLOW__*, ETL_*). With `schedules=False` runs
    start only when they are triggered, also of DAGs that are not paused.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags: Path = ROOT / "dags",
        environment: Mapping[str, str] | None = None,
        port: int = 0,
        schedules: bool = True,
        start_timeout_s: float = 120,
    ) -> None:
        self.home, self.logs = home.absolute(), home.absolute() / "logs"
        self._dags, self._schedules, self._timeout_s = dags.absolute(), schedules, start_timeout_s
        self.port = free_port(port)
        self.api = AirflowApi(f"http://127.0.0.1:{self.port}", self.check)
        self.environment = _environment(self.home, environment or {})
        self._cleanup = ExitStack()
        self._cleanup.callback(self.api.close)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def check(self) -> None:
        """Raise LocalAirflowError if a component has died."""
        if name := self._lifeline.ended():
            raise LocalAirflowError(_explain(f"Airflow's {name} has stopped", self._lifeline.logs[name]))

    def _start(self) -> None:
        lock = self._cleanup.enter_context(self.locked())
        write_settings(self.home, self._dags, self.port, self._schedules)
        self._migrate()
        self._lifeline = Lifeline(held_open=lock)
        self._cleanup.callback(self._lifeline.stop)
        for name, arguments in COMPONENTS.items():
            log = self.logs / f"{name}.log"
            log.unlink(missing_ok=True)
            self._lifeline.start(name, [_airflow(), *arguments], self.environment, log)
        try:
            self.api.wait_until("Airflow healthy", self.api.healthy, self._timeout_s)
        except TimeoutError as error:
            raise LocalAirflowError(_explain(str(error), *self._lifeline.logs.values())) from None
        self.api.login()

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Only one Airflow works in a home; one that has just been stopped may take a moment to go."""
        self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        with (self.home / ".lock").open("a") as handle:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise LocalAirflowError(f"another Airflow works in {self.home}; stop it first") from None
                    time.sleep(0.2)
            yield handle.fileno()

    def _migrate(self) -> None:
        """Make the metadata database, or bring it to this release's form."""
        stamp, release = self.home / ".migrated", version("apache-airflow")
        if stamp.exists() and stamp.read_text() == release and (self.home / "airflow.db").exists():
            return
        if not stamp.exists():
            # The first time has never come to its end; half a database cannot be migrated.
            for left in self.home.glob("airflow.db*"):
                left.unlink()
        log = self.logs / "migrate.log"
        with log.open("wb") as output:
            done = subprocess.run(
                [_airflow(), "db", "migrate"], env=self.environment, stdout=output, stderr=output, check=False
            )
        if done.returncode != 0:
            raise LocalAirflowError(_explain("the metadata database could not be made", log))
        stamp.write_text(release)


def free_port(wanted: int = 0) -> int:
    """The wanted port of 127.0.0.1 if it is free, or the next one that is; any free one for 0."""
    for port in range(wanted, wanted + 100 if wanted else 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise LocalAirflowError(f"no free port from {wanted} to {wanted + 99} on 127.0.0.1")


def write_settings(home: Path, dags: Path, port: int, schedules: bool) -> None:
    """Write airflow.cfg for this start; secrets made at the first one stay. Readable by its owner only."""
    path = home / "airflow.cfg"
    earlier = configparser.ConfigParser(interpolation=None)
    earlier.read(path)
    settings = configparser.ConfigParser(interpolation=None)
    settings.read_dict(_settings(home, dags, port, schedules))
    for (section, option), new in SECRETS.items():
        settings[section][option] = earlier.get(section, option, fallback="") or new()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        settings.write(file)


def _settings(home: Path, dags: Path, port: int, schedules: bool) -> dict[str, dict[str, object]]:
    return {
        "core": {
            "dags_folder": dags,
            "plugins_folder": ROOT / "plugins",
            "load_examples": False,
            "executor": "LocalExecutor",
            "parallelism": 4,
            "simple_auth_manager_all_admins": True,
            "execution_api_server_url": f"http://127.0.0.1:{port}/execution/",
        },
        "database": {"sql_alchemy_conn": f"sqlite:///{home}/airflow.db"},
        "api": {"host": "127.0.0.1", "port": port, "base_url": f"http://localhost:{port}", "workers": 1},
        "api_auth": {},
        # The scheduler looks for work more often than it would on a shared machine.
        "scheduler": {"scheduler_idle_sleep_time": 0.2, "use_job_schedule": schedules},
        "dag_processor": {"parsing_processes": 1},
    }


def _environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of here without another Airflow's settings, and with what all components need."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    folder = str(Path(sys.executable).parent)
    return {
        **inherited,
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
        "NO_PROXY": "localhost,127.0.0.1",
        "no_proxy": "localhost,127.0.0.1",
        # macOS kills forked processes that touch its frameworks otherwise; elsewhere it means nothing.
        "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",
        **extra,
    }


def _airflow() -> str:
    return str(Path(sys.executable).parent / "airflow")


def _explain(problem: str, *logs: Path) -> str:
    tails = [f"--- end of {log}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:]) for log in logs]
    return "\n".join([problem, *tails])
