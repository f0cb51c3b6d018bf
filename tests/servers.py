"""Throwaway database servers for tests, started from the machine's binaries on free loopback ports.

    with postgres() as server:
        server.execute("create table t (a int)")
        monkeypatch.setenv("AIRFLOW_CONN_SOURCE", server.airflow_connection)

MySQL 9 runs from the cache that `scripts/install_mysql.sh` fills, and PgBouncer before a server that runs.

`TEST_POSTGRES_URI` and `TEST_MYSQL_URI` (for example `mysql://user:password@host:3306/database`) name a database to
use instead; it must be one that tests may fill and empty. SQL Server and Oracle (23 or later) have no binaries to
start, and are tested where `TEST_MSSQL_URI` and `TEST_ORACLE_URI` name a database, the connection's extras as a query:
`mssql://sa:password@host:1433/clinic?trust_server_certificate=yes`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from tests import certificates
from tests.database_server import DatabaseServer as DatabaseServer
from tests.database_server import ServerMissing as ServerMissing

USER, PASSWORD, DATABASE = "reader", "p@ss/w%rd:'1", "clinic"
START_TIMEOUT_S = 60
POSTGRES_PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
POSTGRES_SETTINGS = [
    "fsync=off",
    "full_page_writes=off",
    "listen_addresses=127.0.0.1",
    "shared_buffers=32MB",
    "max_prepared_transactions=8",
]
MYSQL_SETTINGS = [
    "--secure-file-priv=",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--mysqlx=OFF",
    "--federated",
    "--innodb-doublewrite=OFF",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-redo-log-capacity=8M",
    "--innodb-buffer-pool-size=32M",
]


@contextlib.contextmanager
def postgres(tls: bool = False) -> Iterator[DatabaseServer]:
    """A PostgreSQL server, or the database that TEST_POSTGRES_URI names; with TLS one of our own in any case."""
    if os.environ.get("TEST_POSTGRES_URI") and not tls:
        yield _from_uri("postgres", os.environ["TEST_POSTGRES_URI"], 5432)
        return
    initdb = _binary(["initdb"], POSTGRES_PLACES, "postgresql")
    with _home("postgres") as home:
        (home / "password").write_text(PASSWORD)
        shutil.chown(home / "password", *_owner("postgres"))
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        _run("postgres", [initdb, "-D", home / "data", "-U", USER, "--pwfile", home / "password", *options])
        settings = list(POSTGRES_SETTINGS)
        server = DatabaseServer("postgres", "127.0.0.1", _free_port(), USER, PASSWORD, "postgres")
        if tls:
            server.certificate, key = certificates.write(home, *_owner("postgres"))
            settings += ["ssl=on", f"ssl_cert_file={server.certificate}", f"ssl_key_file={key}"]
        with _running(server, "postgres", _postgres(home, server.port, settings), home, signal.SIGQUIT):
            server.execute(f"create database {DATABASE}")
            server.database = DATABASE
            yield server


@contextlib.contextmanager
def postgres_standby(primary: DatabaseServer) -> Iterator[DatabaseServer]:
    """A hot standby of a throwaway server, started where that one cannot be reached: it replays nothing more."""
    backup = _binary(["pg_basebackup"], POSTGRES_PLACES, "postgresql")
    with _home("postgres") as home:
        place = f"host={primary.host} port={primary.port} user={primary.user} passfile={home / 'passfile'}"
        escaped = primary.password.replace("\\", "\\\\").replace(":", "\\:")
        (home / "passfile").write_text(f"*:*:*:*:{escaped}")
        (home / "passfile").chmod(0o600)
        shutil.chown(home / "passfile", *_owner("postgres"))
        _run("postgres", [backup, "-D", home / "data", "-d", place, "--checkpoint=fast", "--no-sync"])
        (home / "data" / "standby.signal").touch()
        shutil.chown(home / "data" / "standby.signal", *_owner("postgres"))
        server = replace(primary, port=_free_port(), process=None)
        with _running(server, "postgres", _postgres(home, server.port, POSTGRES_SETTINGS), home, signal.SIGQUIT):
            yield server


def _postgres(home: Path, port: int, settings: Sequence[str]) -> list[str | Path]:
    """The command that runs the server whose data lie in the home."""
    place: list[str | Path] = ["-D", home / "data", "-k", home, "-p", str(port)]
    return [_binary(["postgres"], POSTGRES_PLACES, "postgresql"), *place, *(f"-c{value}" for value in settings)]


@contextlib.contextmanager
def mariadb(tls: bool = False) -> Iterator[DatabaseServer]:
    """A MariaDB server, or the database that TEST_MYSQL_URI names; with TLS one of our own in any case."""
    if os.environ.get("TEST_MYSQL_URI") and not tls:
        yield _from_uri("mysql", os.environ["TEST_MYSQL_URI"], 3306)
        return
    places = [Path("/usr/sbin"), Path("/usr/libexec")]
    install = _binary(["mariadb-install-db", "mysql_install_db"], places, "mariadb-server")
    binary = _binary(["mariadbd", "mysqld"], places, "mariadb-server")
    with _home("mysql") as home:
        quick = [
            f"--tmpdir={home}",  # a server that starts removes temporary tables, also another one's in /tmp
            "--performance-schema",
            "--skip-log-bin",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-log-file-size=8M",
            "--innodb-buffer-pool-size=32M",
        ]
        no_root = "--auth-root-authentication-method=normal"
        _run("mysql", [install, "--no-defaults", f"--datadir={home / 'data'}", no_root, "--skip-test-db", *quick])
        (home / "init.sql").write_text(_mysql_account())
        shutil.chown(home / "init.sql", *_owner("mysql"))
        server = DatabaseServer("mysql", "127.0.0.1", _free_port(), USER, PASSWORD, DATABASE)
        paths = [f"--datadir={home / 'data'}", f"--socket={home / 'socket'}", f"--init-file={home / 'init.sql'}"]
        loopback = ["--bind-address=127.0.0.1", "--skip-name-resolve", f"--port={server.port}"]
        if tls:
            server.certificate, key = certificates.write(home, *_owner("mysql"))
            paths += [f"--ssl-cert={server.certificate}", f"--ssl-key={key}"]
        command = [binary, "--no-defaults", *paths, *loopback, *quick]
        with _running(server, "mysql", command, home, signal.SIGKILL):
            yield server


def _mysql_account() -> str:
    """Statements, a line each, that make the database and the account that may do everything."""
    escaped = PASSWORD.replace("'", "''")
    return (
        f"create database {DATABASE} character set utf8mb4;\n"
        f"create user {USER} identified by '{escaped}';\n"
        f"grant all on *.* to {USER} with grant option;\n"
    )


@contextlib.contextmanager
def mysql(tls: bool = False) -> Iterator[DatabaseServer]:
    """A MySQL 9 server, from the cache, with the loader of its own libc; it runs as root where we are root."""
    unpacked = _unpacked_mysql()
    with _home("root") as home:
        shutil.copytree(unpacked / "data", home / "data")
        (home / "init.sql").write_text(_mysql_account())
        server = DatabaseServer("mysql", "127.0.0.1", _free_port(), USER, PASSWORD, DATABASE)
        libraries = next(unpacked.glob("usr/lib/*/ld-linux*.so.*"))
        loader: list[str | Path] = [libraries, "--library-path", libraries.parent]
        command = [*loader, unpacked / "usr/sbin/mysqld", "--no-defaults", f"--user={_user_name()}"]
        command += [f"--basedir={unpacked / 'usr'}", f"--lc-messages-dir={unpacked / 'usr/share/mysql'}"]
        command += [f"--datadir={home / 'data'}", f"--socket={home / 'socket'}", f"--tmpdir={home}"]
        command += [f"--init-file={home / 'init.sql'}", f"--port={server.port}", "--bind-address=127.0.0.1"]
        if tls:
            server.certificate, key = certificates.write(home, *_owner("root"))
            command += [f"--ssl-cert={server.certificate}", f"--ssl-key={key}"]
        with _running(server, "root", [*command, *MYSQL_SETTINGS], home, signal.SIGKILL):
            yield server


def on_debian() -> bool:
    """Whether MySQL 9 can be had here: Debian alone has it, in its unstable suite."""
    try:
        return platform.freedesktop_os_release()["ID"] == "debian"
    except OSError:  # neither Linux nor anything like it
        return False


def _unpacked_mysql() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "moh-tests")
    folder = Path(os.environ.get("MOH_TESTS_CACHE") or folder)
    for found in sorted(folder.glob("mysql-*/data/mysql.ibd"), reverse=True):
        return found.parents[1]
    raise ServerMissing(f"no MySQL in {folder}: run scripts/install_mysql.sh, on Debian")


@contextlib.contextmanager
def pgbouncer(server: DatabaseServer, pool_mode: str, **settings: str) -> Iterator[DatabaseServer]:
    """PgBouncer before a PostgreSQL server, whose accounts it knows; settings are its own, of the file's [pgbouncer].

    The server's superuser must be the account of `server`; give another one to what this yields.
    """
    binary = _binary(["pgbouncer"], [Path("/usr/sbin")], "pgbouncer")
    with _home("postgres") as home:
        pooled = replace(server, port=_free_port(), process=None, extra={}, certificate=None)
        (home / "accounts").write_text(f'"{server.user}" "{server.password}"\n')
        given = {
            "listen_addr": pooled.host,
            "listen_port": str(pooled.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(home / "accounts"),
            "auth_user": server.user,
            "auth_query": "select usename, passwd from pg_shadow where usename = $1",
            "pool_mode": pool_mode,
            "ignore_startup_parameters": "extra_float_digits",
            **settings,
        }
        lines = [f"{name} = {value}\n" for name, value in given.items()]
        target = f"[databases]\n* = host={server.host} port={server.port}\n"
        (home / "pgbouncer.ini").write_text(f"{target}[pgbouncer]\n{''.join(lines)}")
        for name in ("accounts", "pgbouncer.ini"):
            shutil.chown(home / name, *_owner("postgres"))
        with _running(pooled, "postgres", [binary, home / "pgbouncer.ini"], home, signal.SIGINT):
            yield pooled


@contextlib.contextmanager
def mssql() -> Iterator[DatabaseServer]:
    """The SQL Server database that TEST_MSSQL_URI names, made where it is not there: its image has no way to ask.

    Azure takes CREATE DATABASE alone in its batch, and lets a login of one database enter no other.
    """
    server = _given("mssql", "TEST_MSSQL_URI", 1433)
    name = server.database.replace("]", "]]")
    try:
        server.execute("select 1")
    except Exception as error:
        if not re.search(r"\b(4060|911)\b|Cannot open database|does not exist", str(error)):
            raise
        replace(server, database="master").execute(f"create database [{name}]")
    yield server


@contextlib.contextmanager
def oracle() -> Iterator[DatabaseServer]:
    """The Oracle service that TEST_ORACLE_URI names."""
    yield _given("oracle", "TEST_ORACLE_URI", 1521)


def _given(conn_type: str, variable: str, port: int) -> DatabaseServer:
    if not os.environ.get(variable):
        raise ServerMissing(f"{variable} names no database")
    return _from_uri(conn_type, os.environ[variable], port)


@contextlib.contextmanager
def _running(
    server: DatabaseServer, user: str, command: Sequence[str | Path], home: Path, stop: signal.Signals
) -> Iterator[None]:
    """The server as a child process, stopped at the end whatever happens in between."""
    log = home / "log"
    with log.open("wb") as output:
        server.process = subprocess.Popen(_as_user(user, command), stdout=output, stderr=output, cwd=home)
    try:
        _wait_until_ready(server, log)
        yield
    finally:
        server.process.send_signal(stop)  # nobody reads the data again: no checkpoint, no goodbye
        try:
            server.process.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_until_ready(server: DatabaseServer, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.execute("select 1")
        except Exception as error:
            assert server.process is not None
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{server.conn_type} did not start:\n{log.read_text()[-2000:]}") from error
            time.sleep(0.05)
        else:
            return


@contextlib.contextmanager
def _home(user: str) -> Iterator[Path]:
    """A folder that belongs to the server's user; servers refuse to run as root or to use root's folders."""
    home = Path(tempfile.mkdtemp(prefix=f"test-{user}-"))
    try:
        shutil.chown(home, *_owner(user))
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _owner(user: str) -> tuple[int, int]:
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def _user_name() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _as_user(user: str, command: Sequence[str | Path]) -> list[str]:
    """The command, as the server's own user when we are root; on Linux it dies with us even if we are killed."""
    prefix: list[str] = []
    if sys.platform == "linux" and shutil.which("setpriv"):
        prefix = ["setpriv", "--pdeathsig", "KILL"]
        if os.geteuid() == 0:
            prefix += [f"--reuid={user}", f"--regid={user}", "--init-groups"]
    elif os.geteuid() == 0:
        prefix = ["runuser", "-u", user, "--"]
    return [*prefix, *map(str, command)]


def _run(user: str, command: Sequence[str | Path]) -> None:
    done = subprocess.run(_as_user(user, command), capture_output=True, text=True, cwd=tempfile.gettempdir())
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _binary(names: Sequence[str], places: Sequence[Path], package: str) -> str:
    path = os.pathsep.join([*map(str, places), os.environ.get("PATH", "")])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise ServerMissing(f"{' or '.join(names)} not found: apt-get install {package}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _from_uri(conn_type: str, uri: str, default_port: int) -> DatabaseServer:
    parts = urlsplit(uri)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    host, database = parts.hostname or "localhost", unquote(parts.path.strip("/"))
    extra = dict(parse_qsl(parts.query))
    return DatabaseServer(conn_type, host, parts.port or default_port, user, password, database, extra=extra)
