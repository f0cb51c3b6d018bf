"""Refuses SQL that is more than one SELECT that reads: no writing, no locking, no waiting, no way out of the database.

The account's grants and the read-only session are the wall; this is the sign before it, which says what is wrong
before anything is sent. What a database knows and sqlglot's grammar of it does not is refused too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from include.etl.errors import ConfigurationError
from include.etl.sql_text import unlike_the_server

_FORBIDDEN = (
    exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.Command, exp.Copy, exp.Set,
    exp.Into, exp.Lock, exp.NextValueFor, exp.Execute, exp.Pragma,
)  # fmt: skip
_WORDS = {exp.Lock: "FOR UPDATE or another row lock", exp.NextValueFor: "NEXT VALUE FOR, which changes a sequence"}
_FUNCTIONS = {
    "postgres": r"pg_(read|ls|stat|write|file|log|logical|create|copy|drop|switch|promote|wal|backup|start|stop)_\w+"
    r"|pg_(replication|sync|restore|clear)_\w+|pg_(terminate|cancel)_backend|pg_(reload_conf|rotate_logfile\w*|notify)"
    r"|pg_(promote|export_snapshot|import_system_collations|nextoid|prewarm|truncate_visibility_map)|pg_sleep\w*"
    r"|pg_buffercache_(evict|mark)\w*|pg_get_process_memory_contexts|autoprewarm_\w+|binary_upgrade_\w+"
    r"|pg_(try_)?advisory_\w+|lo_\w+|loread|lowrite|dblink\w*|postgres_fdw_disconnect\w*|setval|nextval|set_config"
    r"|(query|cursor)_to_xml\w*|ts_stat|ts_rewrite|crosstab\w*|connectby|xpath_table|http(_\w+)?"
    r"|gin_clean_pending_list|brin_(summarize|desummarize)_\w+|heap_force_\w+|bt_index_\w+"
    r"|txid_current|pg_current_xact_id|query_export_to_s3|table_import_from_s3|blob_(put|get|list)",
    "mysql": r"load_file|sleep|benchmark|get_lock|release_(all_)?locks?|(master|source)_(pos|gtid)_wait"
    r"|wait_(for_executed_gtid_set|until_sql_thread_after_gtids)|wsrep_sync_wait_upto_gtid|nextval|setval"
    r"|sys_(exec|eval|get|set)|spider_\w+|service_(get|release)_\w*locks|asynchronous_connection_failover_\w+"
    r"|group_replication_\w+|version_tokens_\w+|keyring_key_\w+|audit_(log|api)_\w+|mysql_firewall_\w+"
    r"|set_firewall_(mode|group_mode)|firewall_group_(de)?enlist|read_firewall_\w+|load_rewrite_rules"
    r"|gen_dictionary_(load|drop)|masking_dictionar\w+|flush_rewrite_cache|set_var"
    r"|lambda_a?sync|aws_\w+",
    "tsql": r"openrowset|openquery|opendatasource|xp_\w+|sp_\w+|fn_xe_file_target_read_file|fn_get_audit_file"
    r"|fn_trace_gettable|fn_\w*dblog\w*|dm_os_(file_exists|enumerate_filesystem)",
    "oracle": r"httpuritype|dburitype|xdburitype|bfilename|sys_dburigen",
    "sqlite": r"load_extension|writefile|readfile|edit|fsdir|lsdir|zipfile|fts3_tokenizer",
}
"""Functions that write, lock, wait, or reach files and other servers."""
_SERVICES = r"aws_\w+|azure_\w+|google_ml\w*|cron|net"
"""Schemas of PostgreSQL's extensions whose functions reach a cloud's services, or run statements later."""
_PACKAGES = r"dbms_\w+|utl_\w+|owa\w*|apex_\w+|ctx_\w+|drithsx|urifactory|wpg_docload|htp|htf"
_HARMLESS = r"utl_raw|utl_i18n|utl_match|dbms_rowid"
_HARMLESS_CALLS = {("dbms_lob", name) for name in ("substr", "getlength", "instr", "compare")}
_LOCKING_HINTS = {
    "UPDLOCK", "XLOCK", "TABLOCK", "TABLOCKX", "HOLDLOCK", "SERIALIZABLE", "REPEATABLEREAD", "PAGLOCK", "ROWLOCK",
    "READCOMMITTEDLOCK",
}  # fmt: skip
_STATEMENTS = {
    "ALTER", "BACKUP", "BEGIN", "CHECKPOINT", "CLOSE", "COMMIT", "CREATE", "DBCC", "DEALLOCATE", "DELETE", "DENY",
    "DISK", "DROP", "DUMP", "EXEC", "EXECUTE", "GRANT", "HOLDLOCK", "INSERT", "KILL", "LOAD", "MERGE", "OPEN",
    "PRINT", "RAISERROR", "READTEXT", "RECONFIGURE", "RESTORE", "RETURN", "REVERT", "REVOKE", "ROLLBACK", "SAVE",
    "SET", "SETUSER", "SHUTDOWN", "TRUNCATE", "UPDATE", "UPDATETEXT", "USE", "WAITFOR", "WRITETEXT",
}  # fmt: skip
"""Words that SQL Server takes for the next statement, without a semicolon, where sqlglot sees an alias."""
_UNREADABLE = {
    r"\binto\s+(outfile|dumpfile)\b": "INTO OUTFILE or DUMPFILE, which writes a file",
    r"\block\s+in\s+share\s+mode\b": "LOCK IN SHARE MODE or another row lock",
    r"\bopenrowset\b": "OPENROWSET, which reaches files and other servers",
    r"\bnext\s+value\s+for\b": "NEXT VALUE FOR, which changes a sequence",
    r"\bwaitfor\b": "WAITFOR, which waits",
    r"\bwith\s+(function|procedure)\b": "code of its own in WITH",
}
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`[^`]*`""", re.DOTALL)


def only_select(sql: str, dialect: str, where: str) -> None:
    """Refuse anything but one SELECT that neither writes nor locks; read with the dialect's own grammar.

    Raises:
        ConfigurationError: says what was found, and `where` it stands.
    """
    statements = _parsed(sql, dialect, where)
    for difference in unlike_the_server(sql, dialect):
        raise ConfigurationError(f"{where}: {difference}")
    if len(statements) != 1:
        raise ConfigurationError(f"{where}: {len(statements)} statements; allowed: one SELECT")
    if not isinstance(statements[0], exp.Query):
        raise ConfigurationError(f"{where}: {statements[0].key.upper()}; allowed: one SELECT")
    for what in _found(statements[0], dialect):
        raise ConfigurationError(f"{where}: the SELECT contains {what}; allowed: reading only")


def _parsed(sql: str, dialect: str, where: str) -> list[exp.Expr]:
    try:
        return [statement for statement in sqlglot.parse(sql, dialect=dialect) if statement is not None]
    except SqlglotError as error:
        first = str(error).splitlines()[0]
    except Exception as error:  # noqa: BLE001 - a parser that stumbles has not understood it: RecursionError and others
        first = f"it cannot be read ({type(error).__name__})"
    bare = _QUOTED.sub("''", sql)
    for pattern, what in _UNREADABLE.items():
        if re.search(pattern, bare, re.IGNORECASE):
            raise ConfigurationError(f"{where}: the SELECT contains {what}; allowed: reading only") from None
    raise ConfigurationError(f"{where}: not valid {dialect} SQL: {first}") from None


def _found(tree: exp.Expr, dialect: str) -> Iterator[str]:
    """What the statement does besides reading."""
    for node in tree.find_all(*_FORBIDDEN):
        yield _WORDS.get(type(node), node.key.upper())
    for hint in tree.find_all(exp.WithTableHint):
        yield from (f"the hint {one.name.upper()}" for one in hint.expressions if one.name.upper() in _LOCKING_HINTS)
    for function in tree.find_all(exp.Func):
        names = [function.name] if isinstance(function, exp.Anonymous) else function.sql_names()
        for name in names:
            if re.fullmatch(_FUNCTIONS.get(dialect, ""), name, re.IGNORECASE):
                yield f"the function {name}, which does more than read"
        if dialect == "postgres" and re.fullmatch(_SERVICES, _schema(function), re.IGNORECASE):
            yield f"a function of {_schema(function)}, which does more than read"
    if dialect == "oracle":
        yield from _oracle(tree)
    if dialect == "tsql":
        yield from _tsql(tree)


def _schema(function: exp.Func) -> str:
    """The schema that stands before the function's name, or nothing."""
    parent = function.parent
    if isinstance(parent, exp.Table):
        return parent.db
    return parent.this.name if isinstance(parent, exp.Dot) and parent.expression is function else ""


def _tsql(tree: exp.Expr) -> Iterator[str]:
    for name in tree.find_all(exp.Identifier):
        if not name.quoted and name.name.upper() in _STATEMENTS:
            yield f"{name.name.upper()}, which begins a statement of its own"
    for table in tree.find_all(exp.Table):
        if isinstance(table.this, exp.Dot):
            yield f"{table.sql(dialect='tsql')}, a table of another server"


def _oracle(tree: exp.Expr) -> Iterator[str]:
    for column in tree.find_all(exp.Column):
        if column.name.lower() == "nextval":
            yield "NEXTVAL, which changes a sequence"
    for path in tree.find_all(exp.Dot, exp.Column):
        leaves = path.parts if isinstance(path, exp.Column) else path.flatten()
        parts = [leaf.name.lower() for leaf in leaves]
        for package, call in itertools.pairwise(parts):
            harmless = re.fullmatch(_HARMLESS, package) or (package, call) in _HARMLESS_CALLS
            if re.fullmatch(_PACKAGES, package) and not harmless:
                yield f"the package {package}, which does more than read"
