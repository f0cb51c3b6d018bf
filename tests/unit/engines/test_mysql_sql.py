from __future__ import annotations

import json
import math
import socket
import struct
import threading
import time
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from include.etl.engines.base import Limits, Value
from include.etl.engines.mysql import MySqlEngine
from include.etl.engines.mysql_connection import tls_options
from include.etl.engines.mysql_sql import literal, quoted
from include.etl.errors import ConfigurationError, TransientError


@pytest.mark.parametrize(
    ("value", "sql"),
    [
        (None, "null"),
        (5, "5"),
        (-5, "(-5)"),
        (True, "1"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.10"), "(-0.10)"),
        (0.1, "1.0000000000000001e-01"),
        ("it's", "_utf8mb4 x'69742773'"),
        (b"\x00", "x'00'"),
        (date(2024, 2, 29), "date'2024-02-29'"),
        (datetime(2024, 2, 29, 1, 2, 3), "timestamp'2024-02-29 01:02:03'"),
        (datetime(2024, 2, 29, 1, 2, 3, 4, UTC), "timestamp'2024-02-29 01:02:03.000004'"),
        (datetime(2024, 2, 29, 1, tzinfo=timezone(timedelta(hours=5))), "timestamp'2024-02-28 20:00:00'"),
    ],
)
def test_literals(value: Value, sql: str) -> None:
    assert literal(value) == sql


@pytest.mark.parametrize("value", [math.nan, math.inf, Decimal("NaN"), "\ud800"])
def test_what_mysql_cannot_hold(value: Value) -> None:
    with pytest.raises(ValueError):
        literal(value)


def test_names_are_quoted() -> None:
    assert quoted("a`b") == "`a``b`"


@pytest.mark.parametrize(
    ("mode", "given", "wanted"),
    [
        ("", {}, {}),
        ("", {"ca": "ca.pem"}, {"ca": "ca.pem"}),
        ("DISABLED", {"ca": "ca.pem"}, {}),
        ("REQUIRED", {}, {"check_hostname": False, "verify_mode": "none"}),
        ("VERIFY_CA", {"ca": "ca.pem"}, {"ca": "ca.pem", "verify_mode": "required", "check_hostname": False}),
        ("verify_ca ", {"capath": "ca"}, {"capath": "ca", "verify_mode": "required", "check_hostname": False}),
        ("verify_identity", {"ca": "ca.pem"}, {"ca": "ca.pem", "verify_mode": "required", "check_hostname": True}),
    ],
)
def test_ssl_modes_of_the_c_client(mode: str, given: dict[str, str], wanted: dict[str, object]) -> None:
    assert tls_options(mode, given) == wanted


@pytest.mark.parametrize("mode", ["VERIFY-CA", "require", "PREFERRED"])
def test_an_ssl_mode_that_is_not_known_is_refused(mode: str) -> None:
    """Or else a slip of the pen would send patients' data in plain text."""
    with pytest.raises(ConfigurationError, match=f"ssl_mode is '{mode}'; allowed: DISABLED, REQUIRED, VERIFY_CA"):
        tls_options(mode, {})


@pytest.mark.parametrize("mode", ["VERIFY_CA", "VERIFY_IDENTITY"])
def test_a_certificate_cannot_be_checked_without_its_authority(mode: str) -> None:
    """PyMySQL then takes the machine's own authorities, and any host's certificate."""
    with pytest.raises(ConfigurationError, match=f"ssl_mode is {mode}, which needs `ca`"):
        tls_options(mode, {"cert": "client.pem"})


def test_a_server_that_falls_silent_in_the_tls_handshake_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    salt, low, high = b"12345678", 0x8A00, 0x0008  # TLS, protocol 4.1, secure connection; plugins
    greeting = b"\x0a8.0.36\0" + struct.pack("<I", 7) + salt + b"\0" + struct.pack("<HBHHB", low, 45, 2, high, 21)
    greeting += bytes(10) + b"123456789012\0mysql_native_password\0"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        place = {"conn_type": "mysql", "host": "127.0.0.1", "port": port, "login": "u", "password": "x"}
        monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps({**place, "extra": {"ssl_mode": "REQUIRED"}}))
        kept: list[socket.socket] = []

        def greet() -> None:
            line, _ = listener.accept()
            line.sendall(struct.pack("<I", len(greeting)) + greeting)
            kept.append(line)

        thread = threading.Thread(target=greet)
        thread.start()
        started = time.monotonic()
        with pytest.raises(TransientError), MySqlEngine("clinic", Limits(connect_timeout_s=1.0)).session():
            pass
        thread.join()
        kept[0].close()
    assert 0.9 < time.monotonic() - started < 6
