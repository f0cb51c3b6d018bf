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

_FORBIDDEN = (
    exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.Command, exp.Copy, exp.Set,
    exp.Into, exp.Lock, exp.NextValueFor, exp.Execute, exp.Pragma,
)  # fmt: skip
_WORDS = {exp.Lock: "FOR UPDATE or another row lock", exp.NextValueFor: "NEXT VALUE FOR, which changes a sequence"}
_FUNCTIONS = {
    "postgres": r"pg_(read|ls|stat|write|file|log|logical|create|drop|switch|promote|wal|backup|start|stop)_\w+"
    r"|pg_(terminate|cancel)_backend|pg_(reload_conf|rotate_logfile|notify|promote)|pg_sleep\w*"
    r"|pg_(try_)?advisory_\w+|lo_\w+|loread|lowrite|dblink\w*|setval|nextval|set_config|(query|cursor)_to_xml\w*",
    "mysql": r"load_file|sleep|benchmark|get_lock|release_(all_)?locks?|(master|source)_(pos|gtid)_wait"
    r"|wait_for_executed_gtid_set|nextval|setval|sys_(exec|eval|get|set)",
    "tsql": r"openrowset|openquery|opendatasource|xp_\w+|sp_\w+|fn_xe_file_target_read_file|fn_get_audit_file"
    r"|fn_trace_gettable|fn_dump_dblog",
    "oracle": r"httpuritype|dburitype|xdburitype|bfilename",
    "sqlite": r"load_extension|writefile|readfile|edit|fsdir",
}
"""Functions that write, lock, wait, or reach files and other servers."""
_PACKAGES = r"dbms_\w+|utl_\w+|owa\w*|apex_\w+|htp|htf"
_HARMLESS = r"utl_raw|utl_i18n|utl_match|dbms_rowid"
_HARMLESS_CALLS = {("dbms_lob", name) for name in ("substr", "getlength", "instr", "compare")}
_LOCKING_HINTS = {"UPDLOCK", "XLOCK", "TABLOCK", "TABLOCKX", "HOLDLOCK", "SERIALIZABLE"}
_UNREADABLE = {
    r"\binto\s+(outfile|dumpfile)\b": "INTO OUTFILE or DUMPFILE, which writes a file",
    r"\block\s+in\s+share\s+mode\b": "LOCK IN SHARE MODE or another row lock",
    r"\bopenrowset\b": "OPENROWSET, which reaches files and other servers",
    r"\bnext\s+value\s+for\b": "NEXT VALUE FOR, which changes a sequence",
    r"\bwaitfor\b": "WAITFOR, which waits",
    r"\bwith\s+(function|procedure)\b": "code of its own in WITH",
}
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`[^`]*`""", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def only_select(sql: str, dialect: str, where: str) -> None:
    """Refuse anything but one SELECT that neither writes nor locks; read with the dialect's own grammar.

    Raises:
        ConfigurationError: says what was found, and `where` it stands.
    """
    bare = _QUOTED.sub("''", sql)
    _check_comments(bare, dialect, where)
    statements = _parsed(sql, bare, dialect, where)
    if len(statements) != 1:
        raise ConfigurationError(f"{where}: {len(statements)} statements; allowed: one SELECT")
    if not isinstance(statements[0], exp.Query):
        raise ConfigurationError(f"{where}: {statements[0].key.upper()}; allowed: one SELECT")
    for what in _found(statements[0], dialect):
        raise ConfigurationError(f"{where}: the SELECT contains {what}; allowed: reading only")


def _check_comments(bare: str, dialect: str, where: str) -> None:
    """Refuse comments that a server reads otherwise than sqlglot does."""
    if dialect == "mysql" and re.search(r"/\*[Mm]?!", bare):
        raise ConfigurationError(f"{where}: a comment that MySQL executes (/*! ... */); allowed: plain comments")
    if dialect == "mysql" and re.search(r"--(?=[^\s\x00-\x1f])", _COMMENT.sub("", bare)):
        raise ConfigurationError(f"{where}: -- without a space after it, which is no comment to MySQL; add a space")
    if any("/*" in comment[2:] for comment in _COMMENT.findall(bare)):
        raise ConfigurationError(f"{where}: a comment within a comment; allowed: plain comments")


def _parsed(sql: str, bare: str, dialect: str, where: str) -> list[exp.Expr]:
    try:
        return [statement for statement in sqlglot.parse(sql, dialect=dialect) if statement is not None]
    except SqlglotError as error:
        first = str(error).splitlines()[0]
    except Exception as error:  # noqa: BLE001 - a parser that stumbles has not understood it: RecursionError and others
        first = f"it cannot be read ({type(error).__name__})"
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
    if dialect == "oracle":
        yield from _oracle(tree)


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
