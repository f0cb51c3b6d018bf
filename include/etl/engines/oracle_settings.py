"""What an Oracle session must be set to, so that every account reads the same rows and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from include.etl.errors import ConfigurationError


class Setting(NamedTuple):
    """A setting, the value that it needs, and what would follow from another one."""

    name: str
    value: str
    why: str


COMPARED = "text would be compared and sorted by a language, and ranges of keys would hold other rows"
FORM = "text would be taken for other dates and numbers, and these printed in another form"
PLACE = (Setting("nls_territory", "AMERICA", FORM), Setting("nls_language", "AMERICAN", FORM))
"""They come first: each sets others anew."""
SETTINGS = (
    Setting("nls_comp", "BINARY", COMPARED),
    Setting("nls_sort", "BINARY", COMPARED),
    Setting("nls_calendar", "GREGORIAN", "dates would be printed by another calendar"),
    Setting("nls_numeric_characters", ".,", FORM),
    Setting("nls_date_language", "AMERICAN", FORM),
    Setting("nls_date_format", "YYYY-MM-DD HH24:MI:SS", FORM),
    Setting("nls_timestamp_format", "YYYY-MM-DD HH24:MI:SS.FF", FORM),
    Setting("nls_timestamp_tz_format", "YYYY-MM-DD HH24:MI:SS.FF TZH:TZM", FORM),
    Setting("nls_nchar_conv_excp", "TRUE", "letters that a character set lacks would be replaced in silence"),
)
"""What NLS_SESSION_PARAMETERS shows to every account."""
FURTHER = (
    Setting("query_rewrite_integrity", "enforced", "a materialised view that is out of date might be read instead"),
    Setting("cursor_sharing", "exact", "constants of the query would be replaced, and results take other types"),
    Setting("approx_for_aggregation", "false", "sums and medians might be approximate"),
    Setting("approx_for_count_distinct", "false", "distinct values might be counted approximately"),
)
"""What no plain account may read back: Oracle says whether it was set. The last two are known from version 12.2 on."""
READ_BACK = "select parameter, value from nls_session_parameters"
UNKNOWN = ("ORA-02248", "ORA-00922")
"""How a version refuses a setting that it does not have, and so cannot be set otherwise."""


def setting(*several: Setting) -> str:
    """The statement."""
    return "alter session set " + " ".join(f"{one.name} = '{one.value}'" for one in several)


def pin(run: Callable[[str], Any], rows: Callable[[str], Sequence[tuple[Any, ...]]], who: object) -> list[str]:
    """Set all of them and read them back; what could not be set, in words.

    Raises:
        ConfigurationError: the session is not set to what it needs.
    """
    run(setting(*PLACE))
    run(setting(*SETTINGS))
    unset = list(unlike({str(name).lower(): str(value) for name, value in rows(READ_BACK)}))
    if unset:
        raise ConfigurationError(
            f"{who}: the session cannot be set as reading needs it: {'; '.join(unset)}. Ask the database's "
            "administrator what sets it"
        )
    return [told for one in FURTHER for told in _tried(run, one)]


def unlike(found: Mapping[str, str]) -> Iterator[str]:
    """What the session is not set to, though it has to be."""
    for one in (*PLACE, *SETTINGS):
        value = found.get(one.name, "")
        if value.upper() != one.value.upper():
            yield f"{one.name} is {value!r} and cannot be set to {one.value!r}: {one.why}"


def _tried(run: Callable[[str], Any], one: Setting) -> Iterator[str]:
    try:
        run(setting(one))
    except ConfigurationError as error:
        if not any(code in str(error) for code in UNKNOWN):
            yield f"{one.name} cannot be set to {one.value!r}: {one.why}"
