"""Oracle's engine at the boundary of its driver: its own types, frames and errors, a double only for the socket."""

from __future__ import annotations

import gc
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import oracledb
import pyarrow as pa
import pytest
import sqlglot
from oracledb.errors import _Error
from oracledb.fetch_info import FetchInfo

from include.etl.engines.base import Limits, Query
from include.etl.engines.oracle import OracleEngine
from include.etl.engines.oracle_settings import FURTHER, PLACE, SETTINGS, setting
from include.etl.engines.oracle_types import plan
from include.etl.errors import ConfigurationError, DataError, ExtractionError, TransientError

US, NS = pa.timestamp("us"), pa.timestamp("ns")


def column(name: str, code: oracledb.DbType, precision: int = 0, scale: int = 0, size: int = 22) -> FetchInfo:
    """A column as the driver describes it."""
    return FetchInfo._from_impl(
        SimpleNamespace(name=name, dbtype=code, precision=precision, scale=scale, buffer_size=size, max_size=size)
    )


def oracle_error(message: str, code: int = 0) -> oracledb.Error:
    """The driver's own error for a message of the server (code) or of the driver."""
    details = _Error(message, code=code)
    return details.exc_type(details)


class FakeConnection:
    """What is used of an oracledb connection, with a record of what was sent."""

    def __init__(self, columns: Sequence[FetchInfo], frames: Sequence[pa.Table]) -> None:
        self.columns, self.frames = columns, frames
        self.sent: list[str] = []
        self.asked: dict[str, Any] = {}
        self.on_parse: Any = lambda _: None
        self.on_fetch: Any = lambda: None
        self.protocol = "tcp"
        self.current_schema: str | None = None
        self.answers: dict[str, list[tuple[Any, ...]] | Exception] = {}
        self.refuses: dict[str, Exception] = {}
        self.nls = {one.name.upper(): one.value for one in (*PLACE, *SETTINGS)}
        self.cancelled = threading.Event()
        self.closed = False

    def cursor(self) -> FakeCursor:
        return FakeCursor(self)

    def fetch_df_batches(self, **asked: Any) -> Iterator[oracledb.DataFrame]:
        self.asked = asked
        self.sent.append(asked["statement"])
        for frame in self.frames:
            self.on_fetch()
            yield oracledb.DataFrame._from_arrow(frame)

    def cancel(self) -> None:
        self.cancelled.set()

    def is_healthy(self) -> bool:
        return True

    def rollback(self) -> None:
        self.sent.append("rollback")

    def close(self) -> None:
        self.closed = True


class FakeCursor:
    """What is used of a cursor."""

    def __init__(self, connection: FakeConnection) -> None:
        self.connection = connection
        self.description = connection.columns

    def parse(self, sql: str) -> None:
        self.connection.sent.append(f"parse {sql}")
        self.connection.on_parse(sql)

    def execute(self, sql: str, values: Any = None) -> None:
        self.connection.sent.append(sql)
        for key, error in self.connection.refuses.items():
            if key in sql:
                raise error

    def fetchall(self) -> list[tuple[Any, ...]]:
        if "nls_session_parameters" in self.connection.sent[-1]:
            return list(self.connection.nls.items())
        answer = next((rows for key, rows in self.connection.answers.items() if key in self.connection.sent[-1]), [])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def fetchone(self) -> tuple[str]:
        return (self.connection.protocol,)

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """An Airflow connection for every test."""
    given = {"conn_type": "oracle", "host": "h", "login": "reader", "password": "s3cret"}
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps({**given, "extra": {"service_name": "clinic"}}))


def opened(
    monkeypatch: pytest.MonkeyPatch, columns: Sequence[FetchInfo] = (), frames: Sequence[pa.Table] = ()
) -> FakeConnection:
    fake = FakeConnection(columns, frames)

    def connect(**arguments: Any) -> FakeConnection:
        fake.asked = arguments
        return fake

    monkeypatch.setattr(oracledb, "connect", connect)
    return fake


def engine(**limits: Any) -> OracleEngine:
    return OracleEngine("clinic", Limits(**limits), "nightly run of a source with a long name, over all of its slices")


TYPES = [
    (oracledb.DB_TYPE_NUMBER, 18, 0, pa.int64(), False),
    (oracledb.DB_TYPE_NUMBER, 19, 0, pa.decimal128(19, 0), False),
    (oracledb.DB_TYPE_NUMBER, 10, 2, pa.decimal128(10, 2), False),
    (oracledb.DB_TYPE_NUMBER, 38, 10, pa.decimal128(38, 10), False),
    (oracledb.DB_TYPE_NUMBER, 3, -2, pa.int64(), False),
    (oracledb.DB_TYPE_NUMBER, 18, -2, pa.decimal128(20, 0), False),
    (oracledb.DB_TYPE_NUMBER, 38, -84, pa.string(), True),
    (oracledb.DB_TYPE_NUMBER, 2, 4, pa.decimal128(4, 4), False),
    (oracledb.DB_TYPE_NUMBER, 2, 100, pa.string(), True),
    (oracledb.DB_TYPE_NUMBER, 0, -127, pa.string(), True),
    (oracledb.DB_TYPE_NUMBER, 126, -127, pa.string(), True),
    (oracledb.DB_TYPE_NUMBER, 0, 0, pa.string(), True),
    (oracledb.DB_TYPE_BINARY_FLOAT, 0, 0, pa.float32(), False),
    (oracledb.DB_TYPE_BINARY_DOUBLE, 0, 0, pa.float64(), False),
    (oracledb.DB_TYPE_BOOLEAN, 0, 0, pa.bool_(), False),
    (oracledb.DB_TYPE_DATE, 0, 0, pa.timestamp("s"), False),
    (oracledb.DB_TYPE_TIMESTAMP, 0, 0, US, False),
    (oracledb.DB_TYPE_TIMESTAMP, 0, 6, US, False),
    (oracledb.DB_TYPE_TIMESTAMP, 0, 9, NS, True),
    (oracledb.DB_TYPE_TIMESTAMP_TZ, 0, 6, pa.timestamp("us", "UTC"), True),
    (oracledb.DB_TYPE_TIMESTAMP_TZ, 0, 9, pa.timestamp("ns", "UTC"), True),
    (oracledb.DB_TYPE_TIMESTAMP_LTZ, 0, 6, pa.timestamp("us", "UTC"), True),
    (oracledb.DB_TYPE_INTERVAL_DS, 2, 6, pa.string(), True),
    (oracledb.DB_TYPE_INTERVAL_YM, 2, 0, pa.string(), True),
    (oracledb.DB_TYPE_CHAR, 0, 0, pa.string(), False),
    (oracledb.DB_TYPE_NVARCHAR, 0, 0, pa.string(), False),
    (oracledb.DB_TYPE_CLOB, 0, 0, pa.string(), False),
    (oracledb.DB_TYPE_LONG, 0, 0, pa.string(), False),
    (oracledb.DB_TYPE_XMLTYPE, 0, 0, pa.string(), True),
    (oracledb.DB_TYPE_JSON, 0, 0, pa.string(), True),
    (oracledb.DB_TYPE_ROWID, 0, 0, pa.string(), True),
    (oracledb.DB_TYPE_RAW, 0, 0, pa.binary(), False),
    (oracledb.DB_TYPE_BLOB, 0, 0, pa.binary(), False),
]


@pytest.mark.parametrize(("code", "precision", "scale", "kind", "is_converted"), TYPES)
def test_every_type(code: oracledb.DbType, precision: int, scale: int, kind: pa.DataType, is_converted: bool) -> None:
    made = plan(column("a b", code, precision, scale), engine())
    assert made.field == pa.field("a b", kind)
    assert made.is_converted == is_converted
    assert not pa.types.is_floating(made.fetched) or code is not oracledb.DB_TYPE_NUMBER
    if code not in (oracledb.DB_TYPE_XMLTYPE, oracledb.DB_TYPE_JSON):  # sqlglot has no grammar for their functions
        sqlglot.parse_one(f"select {made.expression} as v from t", dialect="oracle")


def test_types_that_are_not_read_are_refused_by_name() -> None:
    for code in (oracledb.DB_TYPE_BFILE, oracledb.DB_TYPE_OBJECT, oracledb.DB_TYPE_VECTOR, oracledb.DB_TYPE_CURSOR):
        with pytest.raises(ConfigurationError, match=f"'A' has type {code.name}, which is not read"):
            plan(column("A", code), engine())


def test_what_a_session_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [
        column("ID", oracledb.DB_TYPE_NUMBER, 10, 0),
        column("AMOUNT", oracledb.DB_TYPE_NUMBER, 0, -127),
        column("AT", oracledb.DB_TYPE_TIMESTAMP_TZ, 0, 9),
        column("DAY", oracledb.DB_TYPE_DATE),
    ]
    came = {
        "ID": pa.array([1, None], pa.int64()),
        "AMOUNT": ["123456789.000000000000000000000000000001", None],
        "AT": [" 2024-02-29T18:59:59.123456789", None],
        "DAY": pa.array([0, None], pa.timestamp("s")),
    }
    fake = opened(monkeypatch, columns, [pa.table(came)])
    with engine(statement_timeout_s=60).session() as session:
        assert fake.asked["dsn"].endswith("(CONNECT_DATA=(SERVICE_NAME=clinic)))")
        stream = session.stream(Query("select * from t where day >= :start;", {"start": 5}))
        (batch,) = stream.batches
    assert stream.schema == pa.schema(
        [("ID", pa.int64()), ("AMOUNT", pa.string()), ("AT", pa.timestamp("ns", "UTC")), ("DAY", pa.timestamp("s"))]
    )
    assert batch.schema == stream.schema
    assert batch["AT"][0].value == 1709233199123456789
    assert batch.slice(1).to_pylist() == [dict.fromkeys(stream.schema.names)]
    begun = fake.sent.index("set transaction read only")
    assert fake.sent[0] == "alter session set time_zone = '+00:00'"
    assert fake.sent[1:begun] == [
        "alter session set nls_territory = 'AMERICA' nls_language = 'AMERICAN'",
        setting(*SETTINGS),
        "select parameter, value from nls_session_parameters",
        *map(setting, FURTHER),
    ]
    assert fake.sent[begun : begun + 2] == [
        "set transaction read only",
        "parse select * from (\nselect * from t where day >= :v0\n)",
    ]
    assert fake.sent[begun + 2] == (
        "select \"ID\" as \"ID\", to_char(\"AMOUNT\", 'TM9', 'NLS_NUMERIC_CHARACTERS=''.,''') as \"AMOUNT\", "
        'to_char(sys_extract_utc("AT"), \'SYYYY-MM-DD"T"HH24:MI:SS.FF9\') as "AT", "DAY" as "DAY" from (\n'
        "select * from t where day >= :v0\n) q_"
    )
    assert fake.sent[begun + 3 :] == ["rollback"]
    assert session.unpinned == []
    assert fake.closed
    assert fake.asked["parameters"] == {"v0": 5}
    assert fake.asked["requested_schema"].types == [pa.int64(), pa.string(), pa.string(), pa.timestamp("s")]
    seen: Any = fake
    assert (len(seen.module), len(seen.action), seen.call_timeout) == (48, 32, 60_000)
    assert engine().label.startswith(seen.client_identifier)


@pytest.mark.parametrize("name", [one.name for one in (*PLACE, *SETTINGS)])
def test_a_session_that_is_set_otherwise_is_refused_by_the_setting(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A logon trigger that makes it linguistic: a range of keys holds other rows."""
    fake = opened(monkeypatch)
    fake.nls[name.upper()] = "FRENCH"
    with pytest.raises(ConfigurationError, match=f"as reading needs it: {name} is 'FRENCH'"), engine().session():
        pass
    assert fake.closed


@pytest.mark.parametrize(
    ("message", "code", "told"),
    [
        ("ORA-02248: invalid option for ALTER SESSION", 2248, []),
        ("ORA-01031: insufficient privileges", 1031, ["query_rewrite_integrity cannot be set to 'enforced'"]),
    ],
)
def test_what_a_version_lacks_is_passed_over_and_what_an_account_may_not_is_told(
    monkeypatch: pytest.MonkeyPatch, message: str, code: int, told: list[str]
) -> None:
    fake = opened(monkeypatch)
    fake.refuses["query_rewrite_integrity"] = oracle_error(message, code)
    with engine().session() as session:
        assert [one.partition(": ")[0] for one in session.unpinned] == told


@pytest.mark.parametrize(
    ("extra", "service", "current"),
    [({}, "clinic", None), ({"service_name": "pdb"}, "pdb", "clinic"), ({"sid": "X"}, None, None)],
)
def test_the_schema_is_the_service_or_the_current_schema_and_never_both(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, str], service: str | None, current: str | None
) -> None:
    fake: Any = opened(monkeypatch)
    given = {"conn_type": "oracle", "host": "h", "schema": "clinic", "login": "reader", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps(given))
    with engine().session():
        pass
    assert f"SERVICE_NAME={service}" in fake.asked["dsn"] if service else "SID=X" in fake.asked["dsn"]
    assert fake.current_schema == current


@pytest.mark.parametrize(
    ("problem", "named"),
    [
        (ValueError("year -43 is out of range"), "'BORN' or 'SEEN'"),
        (UnicodeDecodeError("utf-16-be", b"patient", 0, 1, "illegal encoding"), "'NAME'"),
    ],
)
def test_a_value_that_python_cannot_hold_is_refused_without_it(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, named: str
) -> None:
    columns = [
        column("BORN", oracledb.DB_TYPE_DATE),
        column("NAME", oracledb.DB_TYPE_NVARCHAR),
        column("SEEN", oracledb.DB_TYPE_TIMESTAMP, 0, 6),
        column("EXACT", oracledb.DB_TYPE_NUMBER, 5),
    ]
    fake = opened(monkeypatch, columns, [pa.table({"BORN": [1]})])

    def fail() -> None:
        raise problem

    fake.on_fetch = fail
    with engine().session() as session, pytest.raises(DataError, match=f"column {named} holds a value") as raised:
        list(session.stream(Query("select * from t")).batches)
    assert "-43" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_batches_are_bounded_by_what_a_row_can_weigh(monkeypatch: pytest.MonkeyPatch) -> None:
    for code, size, rows in (
        (oracledb.DB_TYPE_CLOB, 4000, 16),
        (oracledb.DB_TYPE_VARCHAR, 32767, 512),
        (oracledb.DB_TYPE_NUMBER, 22, 10_000),
    ):
        fake = opened(monkeypatch, [column("A", code, 5, size=size)], [])
        with engine().session() as session:
            assert list(session.stream(Query("select a from t")).batches) == []
        assert fake.asked["size"] == rows


def test_a_column_name_that_comes_twice_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    visit = column("VISIT", oracledb.DB_TYPE_NUMBER, 5)
    fake = opened(monkeypatch, [visit, visit])

    def parse(sql: str) -> None:
        if "select * from (" in sql:
            raise oracle_error("ORA-00918: column ambiguously defined", 918)

    fake.on_parse = parse
    with engine().session() as session, pytest.raises(ConfigurationError, match="more than one column named 'VISIT'"):
        session.schema(Query("select 1 visit, 2 visit from dual"))


def test_ddl_is_never_parsed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = opened(monkeypatch)
    fake.on_parse = lambda _: (_ for _ in ()).throw(oracle_error("ORA-00903: invalid table name", 903))
    with engine().session() as session, pytest.raises(ConfigurationError):
        session.schema(Query("drop table t"))
    assert [sql for sql in fake.sent if "drop" in sql] == ["parse select * from (\ndrop table t\n)"]


@pytest.mark.parametrize(
    ("code", "text", "wanted"),
    [
        (3113, "ORA-03113: end-of-file on communication channel", TransientError),
        (3114, "ORA-03114: not connected to ORACLE", TransientError),
        (3135, "ORA-03135: connection lost contact", TransientError),
        (60, "ORA-00060: deadlock detected while waiting for resource", TransientError),
        (1033, "ORA-01033: ORACLE initialization or shutdown in progress", TransientError),
        (1089, "ORA-01089: immediate shutdown in progress", TransientError),
        (1555, "ORA-01555: snapshot too old: rollback segment number 5 with name 'X' too small", TransientError),
        (8177, "ORA-08177: can't serialize access for this transaction", TransientError),
        (0, "DPY-4011: the database or network closed the connection", TransientError),
        (0, "DPY-4024: call timeout of 1000 ms exceeded", TransientError),
        (0, "DPY-4042: 4711.5 cannot be converted to an Apache Arrow decimal(3, 0)", DataError),
        (0, "DPY-4036: 4711.5 cannot be converted to an Apache Arrow integer", DataError),
        (1476, "ORA-01476: divisor is equal to zero", DataError),
        (1722, "ORA-01722: unable to convert string value containing 'patient 4711' to a number", DataError),
        (942, 'ORA-00942: table or view "CLINIC"."NO_SUCH_TABLE" does not exist', ConfigurationError),
        (904, 'ORA-00904: "NO_SUCH_COLUMN": invalid identifier', ConfigurationError),
        (933, "ORA-00933: SQL command not properly ended", ConfigurationError),
        (1031, "ORA-01031: insufficient privileges", ConfigurationError),
        (1456, "ORA-01456: may not perform insert, delete, update operation inside a READ ONLY", ConfigurationError),
        (20001, "ORA-20001: patient 4711 is secret", ConfigurationError),
        (604, "ORA-00604: error at recursive SQL level 1\nORA-20001: patient 4711 is secret", ConfigurationError),
        (12801, "ORA-12801: error in parallel query server P000\nORA-20001: patient 4711", ConfigurationError),
        (12801, "ORA-12801: in parallel query server P000\nORA-01722: string '4711' to a number", DataError),
        (12801, "ORA-12801: in parallel query server P000\nORA-01555: snapshot too old", TransientError),
        (1466, "ORA-01466: unable to read data - table definition has changed", TransientError),
    ],
)
def test_errors_of_queries(
    monkeypatch: pytest.MonkeyPatch, code: int, text: str, wanted: type[ExtractionError]
) -> None:
    fake = opened(monkeypatch, [column("A", oracledb.DB_TYPE_NUMBER, 5)], [pa.table({"A": [1]})])

    def fail() -> None:
        raise oracle_error(text, code)

    fake.on_fetch = fail
    with engine().session() as session, pytest.raises(wanted) as raised:
        list(session.stream(Query("select a from t")).batches)
    assert type(raised.value) is wanted
    assert "4711" not in str(raised.value)
    assert "Help:" not in str(raised.value)
    if code in (942, 904):
        assert text.split('"')[-2] in str(raised.value)


@pytest.mark.parametrize(
    ("problem", "wanted"),
    [
        (oracle_error("ORA-01017: invalid credential or not authorized; logon denied", 1017), ConfigurationError),
        (oracle_error("ORA-12154: cannot connect to database. Cannot find alias X", 12154), ConfigurationError),
        (oracle_error('DPY-4000: unable to find "x" in tnsnames.ora'), ConfigurationError),
        (oracle_error("DPY-6005: cannot connect to database.\n[Errno 111] Connection refused"), TransientError),
        (oracle_error("DPY-6005: cannot connect to database.\n[SSL] certificate verify failed"), ConfigurationError),
        (oracle_error('DPY-6001: Service "c" is not registered with the listener'), TransientError),
        (oracle_error("ORA-12541: Cannot connect. No listener at host h port 1521. s3cret", 12541), TransientError),
        (oracle_error("ORA-01034: ORACLE not available", 1034), TransientError),
        (oracle_error("ORA-28000: The account is locked.", 28000), ConfigurationError),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), ConfigurationError),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), TransientError),
        (ConnectionResetError(104, "Connection reset by peer"), TransientError),
    ],
)
def test_a_session_that_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, wanted: type[ExtractionError]
) -> None:
    def connect(**_: Any) -> None:
        raise problem

    monkeypatch.setattr(oracledb, "connect", connect)
    with pytest.raises(wanted, match="cannot connect") as raised, engine().session():
        pass
    assert type(raised.value) is wanted
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("heeds", [True, False], ids=["cancelled", "hung"])
def test_a_read_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch, heeds: bool) -> None:
    monkeypatch.setattr("include.etl.engines.oracle.GRACE_S", 0.2)
    fake = opened(monkeypatch, [column("A", oracledb.DB_TYPE_NUMBER, 5)], [pa.table({"A": [1]})])
    never = threading.Event()
    fake.on_fetch = lambda: (fake.cancelled if heeds else never).wait(10)
    kind, said = (ConfigurationError, r"extract\.statement_timeout = 0\.3 s") if heeds else (TransientError, "no more")
    started = time.monotonic()
    with (
        engine(statement_timeout_s=0.3).session() as session,
        pytest.raises(kind, match=said),
    ):
        list(session.stream(Query("select a from t")).batches)
    assert 0.3 <= time.monotonic() - started < 3
    assert fake.cancelled.is_set()
    assert fake.closed == heeds
    never.set()


def test_a_call_timeout_of_the_whole_limit_is_the_statement_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = opened(monkeypatch, [column("A", oracledb.DB_TYPE_NUMBER, 5)], [pa.table({"A": [1]})])

    def fail() -> None:
        time.sleep(0.29)
        raise oracle_error("DPY-4024: call timeout of 300 ms exceeded")

    fake.on_fetch = fail
    with engine(statement_timeout_s=0.3).session() as session, pytest.raises(ConfigurationError, match="did not end"):
        list(session.stream(Query("select a from t")).batches)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the driver leaves its socket open
def test_the_real_driver_and_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        given = {"conn_type": "oracle", "host": "127.0.0.1", "port": listener.getsockname()[1], "schema": "clinic"}
        monkeypatch.setenv("AIRFLOW_CONN_CLINIC", json.dumps({**given, "login": "reader", "password": "s3cret"}))
        with pytest.raises(TransientError, match="no answer within"), engine(connect_timeout_s=0.5).session():
            pass
    for thread in threading.enumerate():
        if thread.name == "database call":
            thread.join(10)
    gc.collect()


@pytest.mark.parametrize(("protocol", "refused"), [("tcp", True), ("tcps", False)])
def test_require_tls(monkeypatch: pytest.MonkeyPatch, protocol: str, refused: bool) -> None:
    opened(monkeypatch).protocol = protocol
    if refused:
        with pytest.raises(ConfigurationError, match="not encrypted"), engine(require_tls=True).session():
            pass
    else:
        with engine(require_tls=True).session() as session:
            assert session.connection


def test_decimals_keep_their_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    came = pa.table({"A": pa.array([Decimal("1.50")], pa.decimal128(38, 2))})
    opened(monkeypatch, [column("A", oracledb.DB_TYPE_NUMBER, 38, 2)], [came, came])
    with engine().session() as session:
        (batch,) = session.stream(Query("select a from t")).batches
    assert batch["A"].to_pylist() == [Decimal("1.50")] * 2


def test_statistics_come_from_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = opened(monkeypatch)
    fake.answers = {
        "all_tab_statistics": [(1000,)],
        "all_ind_columns": [("ID",)],
        "all_tab_columns": [("NUMBER", 0)],
        "all_tab_histograms": [("1", 0, 0), ("1000", 1, 0)],
    }
    with engine().session() as session:
        found = session.statistics("CLINIC.T", "ID")
        assert session.consistency == "session"
    assert (found.rows, [step.value for step in found.steps], found.leading) == (1000, [1, 1000], {"ID"})
