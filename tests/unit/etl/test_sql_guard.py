"""Only one SELECT that reads gets through, whatever the dialect offers beside it."""

from __future__ import annotations

import random

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from include.etl.errors import ConfigurationError
from include.etl.sql_guard import only_select

REFUSED = {
    "postgres": [
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_catalog.\"pg_read_binary_file\"('x')",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
        "SELECT lo_import('/x')",
        "SELECT lo_export(1, '/x')",
        "SELECT * FROM dblink('host=other', 'DELETE FROM t') AS t(a int)",
        "SELECT pg_sleep(100)",
        "SELECT setval('s', 1)",
        "SELECT nextval('s')",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_xact_lock(1)",
        "SELECT query_to_xml('DELETE FROM t', true, true, '')",
        "SELECT * FROM t FOR UPDATE",
        "SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED",
        "SELECT * FROM t FOR KEY SHARE",
        "SELECT * INTO copy FROM t",
        "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone",
        "WITH made AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM made",
        "COPY t TO PROGRAM 'sh'",
        "SELECT 1; DROP TABLE t",
        "SELECT 1 /* /* */ */ , pg_sleep(1)",
        "DO $$ BEGIN END $$",
        "CALL p()",
        "SET ROLE admin",
        'SELECT U&"pg\\005fsleep"(1)',
        "SELECT u&'\\0070'",
        "SELECT * FROM (SELECT 1) AS x, u&\"pg!005fsleep\" UESCAPE '!' (1)",
        "SELECT 1 -- x\r, pg_sleep(1)",
        "SELECT E'a'\n'\\'', pg_sleep(1), ' AS b -- '",
        "SELECT pg_replication_slot_advance('a', '0/0')",
        "SELECT pg_replication_origin_create('a')",
        "SELECT pg_copy_physical_replication_slot('a', 'b')",
        "SELECT pg_sync_replication_slots()",
        "SELECT pg_export_snapshot()",
        "SELECT pg_import_system_collations('pg_catalog')",
        "SELECT pg_clear_relation_stats('public', 't')",
        "SELECT pg_current_xact_id()",
        "SELECT pg_prewarm('t')",
        "SELECT aws_s3.query_export_to_s3('SELECT 1', 'bucket')",
        "SELECT query_export_to_s3('SELECT 1', 'bucket')",
        "SELECT * FROM aws_lambda.invoke('f', '{}')",
        'SELECT "aws_lambda".invoke(a) FROM t',
        "SELECT azure_storage.blob_put('account', 'container', 'path', t) FROM t",
        "SELECT google_ml.embedding('m', note) FROM t",
        "SELECT cron.schedule('* * * * *', 'SELECT 1')",
        "SELECT net.http_get('http://x')",
        "SELECT gin_clean_pending_list('i')",
        "SELECT brin_summarize_new_values('i')",
        "SELECT brin_desummarize_range('i', 0)",
        "SELECT * FROM ts_stat('SELECT pg_sleep(1)')",
        "SELECT ts_rewrite(q, 'SELECT pg_sleep(1)') FROM t",
        "SELECT * FROM crosstab('SELECT pg_sleep(1)') AS t(a int)",
        "SELECT http_get('http://x')",
    ],
    "mysql": [
        "SELECT mysql.lambda_sync('arn', note) FROM t",
        "SELECT lambda_async('arn', note) FROM t",
        "SELECT aws_comprehend_detect_sentiment(note, 'en') FROM t",
        "SELECT * FROM t INTO OUTFILE '/tmp/x'",
        "SELECT a FROM t INTO DUMPFILE '/tmp/x'",
        "SELECT load_file('/etc/passwd')",
        "SELECT sleep(100)",
        "SELECT BENCHMARK(1000000000, MD5('a'))",
        "SELECT get_lock('a', 10)",
        "SELECT RELEASE_ALL_LOCKS()",
        "SELECT * FROM t FOR UPDATE",
        "SELECT * FROM t FOR SHARE",
        "SELECT * FROM t LOCK IN SHARE MODE",
        "SELECT NEXT VALUE FOR s",
        "SELECT nextval(s)",
        "SELECT 1 /*!50000 , sleep(10) */",
        "SELECT 1 /*M! , sleep(10) */",
        "SELECT 1 --1, sleep(10)",
        "SELECT 1 /* /* */ , sleep(10) /* */ */",
        "SELECT 'a\\'', sleep(1), ' '",
        "SELECT 1 -- it's\n /*!50000 , sleep(10) */ -- it's",
        "SELECT 1 # it's\n /*!50000 , sleep(10) */ # it's",
        "SELECT 1 -- x\r /* \n , sleep(10) -- */",
        "SELECT 1 --\x01 /* \n , sleep(10) -- */",
        "SELECT 1 --\f /* \n , sleep(10) -- */",
        "SELECT {# x\n fn sleep(10) }# #}\n + 1",
        "SELECT /*+ SET_VAR(sql_mode = '') */ 1",
        "SELECT spider_direct_sql('DELETE FROM t', 'x', 'y')",
        "SELECT wait_until_sql_thread_after_gtids('a', 10)",
        "SELECT service_get_write_locks('a', 'b', 1)",
        "SELECT group_replication_set_as_primary('a')",
        "SELECT asynchronous_connection_failover_reset()",
        "CALL p()",
    ],
    "tsql": [
        "SELECT * FROM OPENROWSET('SQLNCLI', 'Server=x', 'SELECT 1')",
        "SELECT * FROM OPENROWSET(BULK N'C:\\x', SINGLE_CLOB) AS d",
        "SELECT * FROM OPENQUERY(linked, 'DELETE FROM t')",
        "SELECT * FROM OPENDATASOURCE('SQLNCLI', 'x').a.b.c",
        "SELECT NEXT VALUE FOR dbo.s",
        "EXEC xp_cmdshell 'dir'",
        "EXECUTE AS USER = 'dbo'",
        "SELECT * INTO #copy FROM t",
        "SELECT * FROM t WITH (UPDLOCK, ROWLOCK)",
        "SELECT * FROM t WITH (TABLOCKX)",
        "SELECT * FROM sys.fn_xe_file_target_read_file('x', NULL, NULL, NULL)",
        "SELECT 1 WAITFOR DELAY '0:0:5'",
        "SELECT * FROM sys.fn_dblog(NULL, NULL)",
        "SELECT * FROM sys.dm_os_enumerate_filesystem('C:\\', '*')",
        "SELECT * FROM t WITH (REPEATABLEREAD)",
        "SELECT * FROM t WITH (PAGLOCK)",
        "SELECT * FROM t WITH (READCOMMITTEDLOCK)",
        "SELECT * FROM t HOLDLOCK",
        "SELECT * FROM linked.db.dbo.t",
        "SELECT * FROM linked...t",
        "SELECT * FROM [linked].[db].[dbo].[f](1) AS x",
        "SELECT 1 CHECKPOINT",
        "SELECT * FROM t SHUTDOWN",
        "SELECT 1 SETUSER",
        "SELECT * FROM t AS a CROSS JOIN u Revert",
        'SELECT * FROM t EXEC ("p")',
    ],
    "oracle": [
        "SELECT dbms_lock.sleep(100) FROM dual",
        "SELECT DBMS_SESSION.SLEEP(1) FROM dual",
        "SELECT sys.utl_http.request('http://x') FROM dual",
        "SELECT utl_file.fopen('a', 'b', 'c') FROM dual",
        "SELECT utl_inaddr.get_host_name FROM dual",
        "SELECT s.nextval FROM dual",
        "SELECT me.s.NEXTVAL FROM dual",
        "SELECT httpuritype('http://x').getclob() FROM dual",
        "SELECT * FROM t FOR UPDATE NOWAIT",
        "WITH FUNCTION f RETURN NUMBER IS BEGIN RETURN 1; END; SELECT f FROM dual",
        "BEGIN p; END;",
        "SELECT * FROM t@remote",
        'SELECT * FROM me."T" @remote.example x',
        "SELECT package.f@remote(1) FROM dual",
        "SELECT s.currval@remote FROM dual",
        "SELECT q'é', é', dbms_lock.sleep(1), 'x' FROM dual --'",
        "SELECT ctxsys.drithsx.sn(1, 'x') FROM dual",
    ],
    "sqlite": [
        "SELECT load_extension('x')",
        "SELECT writefile('/x', 'y')",
        "SELECT readfile('/x')",
        "PRAGMA writable_schema = 1",
        "ATTACH 'x' AS y",
        "VACUUM INTO 'x'",
        "SELECT * FROM zipfile('/x')",
    ],
}
ALLOWED = {
    "postgres": [
        "SELECT a, 'FOR UPDATE; DROP TABLE x -- pg_sleep(1)' FROM t -- it's; fine",
        "WITH a AS (SELECT 1 AS n) SELECT * FROM a UNION ALL SELECT 2 /* ; */",
        "SELECT to_char(d, 'YYYY'), jsonb_path_query_first(j, '$.a'), current_setting('TimeZone') FROM t",
        "SELECT log_entry, sleep FROM pg_sleep_study",
        "SELECT t.schedule, clinic.invoke(t.a) FROM cron.job AS t",
        "SELECT a & b, 'U&\"x\"', E'it\\'s', $q$ @ U&' $q$ FROM t\r\n-- é\r\n",
    ],
    "mysql": ["SELECT `sleep`, '--x', '/*! x */' FROM t -- plain", "SELECT IFNULL(a, 0) - -1, 'é' FROM t # it's"],
    "tsql": [
        "SELECT TOP 5 [a b], [exec] AS [kill] FROM db.dbo.t WITH (NOLOCK)",
        "SELECT x.v FROM other..t AS t CROSS APPLY OPENJSON(t.j) AS x",
    ],
    "oracle": [
        "SELECT dbms_lob.substr(note, 4000, 1), utl_raw.cast_to_varchar2(r), s.currval FROM t",
        "SELECT a.b.c, NVL(a.d, 0) FROM a",
        "SELECT /*+ FULL(a) */ \"a@b\", 'x@y', q'[it's @]', nq'!a!' FROM a -- me@here",
    ],
    "sqlite": ["SELECT strftime('%Y', a), json_extract(j, '$.a') FROM t"],
}


@pytest.mark.parametrize(("dialect", "sql"), [(d, sql) for d, found in REFUSED.items() for sql in found])
def test_what_is_not_reading_is_refused(dialect: str, sql: str) -> None:
    with pytest.raises(ConfigurationError, match="source 'x'"):
        only_select(sql, dialect, "source 'x'")


@pytest.mark.parametrize(("dialect", "sql"), [(d, sql) for d, found in ALLOWED.items() for sql in found])
def test_reading_is_allowed(dialect: str, sql: str) -> None:
    only_select(sql, dialect, "source 'x'")


@pytest.mark.parametrize(
    ("dialect", "sql", "reason"),
    [
        ("postgres", "SELECT pg_sleep(1)", "the function pg_sleep, which does more than read"),
        ("mysql", "SELECT a FROM t INTO OUTFILE '/x'", "INTO OUTFILE or DUMPFILE, which writes a file"),
        ("tsql", "SELECT * FROM t WITH (XLOCK)", "the hint XLOCK"),
        ("oracle", "SELECT utl_http.request('x') FROM dual", "the package utl_http"),
        ("oracle", "SELECT s.nextval FROM dual", "NEXTVAL, which changes a sequence"),
        ("mysql", "SELECT 1 --1", "no comment to MySQL"),
    ],
)
def test_the_reason_is_said(dialect: str, sql: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        only_select(sql, dialect, "source 'x'")
    assert reason in str(refused.value)


PIECES = [
    "SELECT", "a", "FROM", "t", "WHERE", "(", ")", ",", ";", "*", "DELETE", "INTO", "UPDATE", "FOR", "WITH", "AS", "'",
    '"', "`", "--", "/*", "*/", "\n", "#", "$$", "\\", "DROP TABLE t", "UNION", "1", "=", ":window_start", "[", "]",
    "é", "\x00", "pg_sleep(1)", "SET", "LIMIT", "BEGIN", "END", "CASE", "WHEN", "@x", ":=", ".", "OUTFILE", "E'",
]  # fmt: skip


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(REFUSED)), st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES)).map(" ".join))
)
def test_no_text_gets_past_or_breaks_the_guard(dialect: str, sql: str) -> None:
    try:
        only_select(sql, dialect, "source 'x'")
    except ConfigurationError:
        return
    (statement,) = [found for found in sqlglot.parse(sql, dialect=dialect) if found]
    assert isinstance(statement, exp.Query)
    assert not list(statement.find_all(exp.Delete, exp.Insert, exp.Update, exp.Drop, exp.Into, exp.Set))


@settings(max_examples=150)
@given(
    st.sampled_from([(d, sql) for d, found in REFUSED.items() for sql in found if "--" not in sql]),
    st.integers(0, 2**32),
)
def test_dressing_up_does_not_help(bad: tuple[str, str], seed: int) -> None:
    """Other capitals, white space and comments between words change nothing."""
    dialect, sql = bad
    dice = random.Random(seed)
    words = [word if "'" in word else dice.choice([str.lower, str.upper, str])(word) for word in sql.split(" ")]
    joined = "".join(word + dice.choice([" ", "\n", "\t ", " /* x */ ", " -- x\n"]) for word in words)
    with pytest.raises(ConfigurationError):
        only_select(joined, dialect, "source 'x'")


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    with pytest.raises(ConfigurationError):
        only_select("SELECT " + "(" * 20_000, "postgres", "source 'x'")
