"""The settings that change what a MySQL or MariaDB session reads: what each must be, and why.

A DBA may have set them for everybody, and `init_connect` for this account. Those that differ are set, and read back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from include.etl.engines.base import Engine, Limits
from include.etl.engines.batches import Row
from include.etl.errors import ConfigurationError

Ask = Callable[[str], list[Row]]


class Setting(NamedTuple):
    """A setting as the server prints it; one that a server does not have needs no value there."""

    name: str
    value: str
    why: str
    """What follows from another value."""
    without: Literal["refused", "not verified", "read"] = "refused"
    """What becomes of a session that cannot set it."""
    at_least: bool = False
    """More than the value is as good."""

    def holds(self, found: Mapping[str, str]) -> bool:
        """Whether the session's value will do."""
        value = found.get(self.name, self.value)
        return value == self.value or (self.at_least and value.isdecimal() and int(value) >= int(self.value))

    def assigned(self) -> str:
        """As SET takes it."""
        bare = self.value == "DEFAULT" or self.value.replace(".", "", 1).isdecimal()
        return f"{self.name} = {self.value}" if bare else f"{self.name} = '{self.value}'"


class Pinned(NamedTuple):
    """What a session has of what it wants."""

    kept_warnings: int
    """How many warnings of a statement the server keeps."""
    caveats: Sequence[str]
    """What may follow from settings that it could not set, in words."""
    modes: frozenset[str] = frozenset()
    """The SQL modes that the server had given it, in which its users write their queries."""


def pin(ask: Ask, engine: Engine) -> Pinned:
    """Set what differs from what the session needs, and read it back.

    Raises:
        ConfigurationError: a setting without which rows may be missing or wrong is another one and may not be set.
    """
    ask(f"set session sql_select_limit = {NO_LIMIT}")  # which cuts even the list of settings
    found = _read(ask, wanted(engine.limits, mariadb=False))
    modes = frozenset(found["sql_mode"].split(","))
    utf8mb3 = UTF8MB3 in found.get("old_mode", "").split(",")
    settings = wanted(engine.limits, mariadb="max_statement_time" in found, utf8mb3=utf8mb3)
    if differing := [one for one in settings if not one.holds(found)]:
        _set(ask, differing)
        found = _read(ask, settings)
    left = [one for one in settings if not one.holds(found)]
    said = {one: f"{one.name} is {found[one.name]!r} and could not be set to {one.value!r}: {one.why}" for one in left}
    if refused := [said[one] for one in left if one.without == "refused"]:
        raise ConfigurationError(
            f"{engine}: {'; '.join(refused)}. Ask the database's administrator to let this account set it for its own "
            "session, or to change it for all"
        )
    caveats = [said[one] for one in left if one.without == "not verified"]
    return Pinned(int(found["max_error_count"]), caveats, modes)


def _read(ask: Ask, settings: Sequence[Setting]) -> dict[str, str]:
    names = ", ".join(f"'{one.name}'" for one in settings)
    rows = ask(f"show session variables where variable_name in ({names})")
    return {_text(name): _text(value) for name, value in rows}


def _set(ask: Ask, differing: Sequence[Setting]) -> None:
    """All at once; where the account may not set all of them, each that it may."""
    try:
        ask(f"set session {', '.join(one.assigned() for one in differing)}")
    except ConfigurationError:
        for one in differing:
            _try(ask, one)


def _try(ask: Ask, one: Setting) -> None:
    try:
        ask(f"set session {one.assigned()}")
    except ConfigurationError:
        return  # what is read back says so


def wanted(limits: Limits, *, mariadb: bool, utf8mb3: bool = False) -> list[Setting]:
    """Every setting that a session pins; `utf8mb3` where the server takes `utf8` for that, which it goes on doing."""
    whole_s = max(1, math.ceil(limits.statement_timeout_s))
    timeouts = {
        "max_statement_time": f"{limits.statement_timeout_s:f}",
        "max_execution_time": f"{limits.statement_timeout_s * 1000:.0f}",
        # The server may wait for a slow reader as long as for the query, not only its default of a minute.
        "net_write_timeout": str(whole_s),
        "lock_wait_timeout": str(max(1, whole_s // 2)),
        "innodb_lock_wait_timeout": str(max(1, whole_s // 2)),
    }
    return [
        # MariaDB does not know which columns depend on a key, and would refuse good queries with this mode.
        Setting("sql_mode", "" if mariadb else "ONLY_FULL_GROUP_BY", MODE),
        Setting("old_mode", UTF8MB3 if utf8mb3 else "", "conversions may give other values", "not verified"),
        *SETTINGS,
        *(Setting(name, value, "only the client's own timeout holds", "read") for name, value in timeouts.items()),
    ]


UTF8MB3 = "UTF8_IS_UTF8MB3"
"""MariaDB's default: without it `collate utf8_general_ci` would fail for columns that are utf8mb3."""
NO_LIMIT = 18446744073709551615
IDLE_S = 28800
"""How long a session waits for its own reader, between the rows and their count: the default of both servers."""
MODE = "the server would take the query for another one than was checked, or give other values"
"""No ANSI_QUOTES, PIPES_AS_CONCAT, NO_BACKSLASH_ESCAPES, HIGH_NOT_PRECEDENCE, IGNORE_SPACE, ORACLE: the guard reads SQL
without them. No PAD_CHAR_TO_FULL_LENGTH, NO_UNSIGNED_SUBTRACTION, REAL_AS_FLOAT, EMPTY_STRING_IS_NULL, NO_ZERO_DATE,
TIME_ROUND_FRACTIONAL: they change values. ERROR_FOR_DIVISION_BY_ZERO would push other warnings off the list."""
MISSING = "rows may be missing"
TEXT = "texts may come as other characters"
STATE = "the queries of a session may see different states of the database"
CUT = "longer texts of GROUP_CONCAT are cut"
EQUAL = "longer texts that differ only after so many bytes may count as equal"
BUSY = "the server may end a session whose reader is busy"

SETTINGS = [
    Setting("sql_select_limit", str(NO_LIMIT), MISSING),
    Setting("time_zone", "+00:00", "times would be shifted"),
    Setting("character_set_client", "utf8mb4", TEXT),
    Setting("character_set_connection", "utf8mb4", TEXT),
    Setting("character_set_results", "utf8mb4", TEXT),
    Setting("transaction_isolation", "REPEATABLE-READ", STATE),
    Setting("tx_isolation", "REPEATABLE-READ", STATE),
    Setting("transaction_read_only", "ON", "the session could write"),
    Setting("tx_read_only", "ON", "the session could write"),
    Setting("completion_type", "NO_CHAIN", STATE),
    Setting("system_versioning_asof", "DEFAULT", "rows of the past would be read"),
    Setting("wsrep_dirty_reads", "OFF", "a node that has lost its cluster would answer, and miss rows"),
    Setting("use_secondary_engine", "OFF", "a copy of the table may be read that is behind it", "not verified"),
    Setting("query_cache_type", "OFF", "an answer of before may be given again", "not verified"),
    Setting("max_recursive_iterations", "4294967295", MISSING, "not verified"),
    Setting("group_concat_max_len", str(1 << 30), CUT, "not verified", at_least=True),
    Setting("max_sort_length", "65535", EQUAL, "not verified", at_least=True),
    Setting("sort_buffer_size", str(2 << 20), "such long texts may not be sorted", "read", at_least=True),
    Setting("div_precision_increment", "4", "quotients may have other digits", "not verified"),
    Setting("default_week_format", "0", "WEEK() may count otherwise", "not verified"),
    Setting("lc_time_names", "en_US", "names of days and months may be in another language", "not verified"),
    Setting("sql_auto_is_null", "OFF", "a search for NULL may find a row that has a value", "not verified"),
    Setting("default_regex_flags", "", "regular expressions may mean something else", "not verified"),
    Setting("windowing_use_high_precision", "ON", "window functions may give other digits", "not verified"),
    Setting("standard_compliant_cte", "ON", "recursive queries may mean something else", "not verified"),
    # How many warnings are kept is known; only a statement with more of them is in doubt.
    Setting("max_error_count", "65535", "more warnings are not told", "read"),
    Setting("wait_timeout", str(IDLE_S), BUSY, "read", at_least=True),
    Setting("idle_transaction_timeout", str(IDLE_S), BUSY, "read"),
    Setting("idle_readonly_transaction_timeout", str(IDLE_S), BUSY, "read"),
]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
