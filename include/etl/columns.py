"""A column of the source as it is published: converted to its declared type, or trimmed."""

from __future__ import annotations

import re

from include.etl.config import Source
from include.etl.duck import quote
from include.etl.errors import ConfigurationError

_WHOLE = {f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE")}
_WHOLE |= {"INTEGER", "UINTEGER", "INT", "INT1", "INT2", "INT4", "INT8", "INT16", "SHORT", "LONG", "SIGNED"}
_FRACTION = {"DECIMAL", "NUMERIC", "DEC"}
_NUMBERS = _WHOLE | _FRACTION | {"FLOAT", "DOUBLE"}
_DEFAULT_SCALE = 3
_WHITE_SPACE = "' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13)"


def converted(source: Source, column: str, kind: str) -> str:
    """The SQL expression for the published value of a column that DuckDB reads as `kind`."""
    value = quote(column)
    if column in source.transform.types:
        return _exactly(value, kind, declared_type(source, column))
    return _trimmed(value) if kind == "VARCHAR" and source.transform.trim else value


def _exactly(value: str, kind: str, declared: str) -> str:
    """The cast; a number that DuckDB would round in silence does not convert."""
    changed = _changed(value, kind, declared)
    cast = f"CAST({value} AS {declared})"
    return f"CASE WHEN {changed} THEN CAST(concat({value}, ' is not exact') AS {declared}) ELSE {cast} END"


def _changed(value: str, kind: str, declared: str) -> str:
    """Whether the cast gives another number: a number is cast back, of text the decimals are looked at."""
    if kind.partition("(")[0] in _NUMBERS:
        return f"CAST(CAST({value} AS {declared}) AS {kind}) IS DISTINCT FROM {value}"
    name, _, digits = declared.upper().replace(" ", "").rstrip(")").partition("(")
    if kind != "VARCHAR" or name not in _WHOLE | _FRACTION:
        return "false"
    scale = int(digits.partition(",")[2] or 0) if digits else _DEFAULT_SCALE if name in _FRACTION else 0
    rounded = f"CAST(CAST({value} AS {declared}) AS DOUBLE) <> CAST({value} AS DOUBLE)"
    return f"regexp_matches({value}, '[.][0-9]{{{scale}}}[0-9]*[1-9]') OR (contains(lower({value}), 'e') AND {rounded})"


def _trimmed(value: str) -> str:
    """Trimming takes longer than a look at the first and the last character; all white space is below '!'."""
    return f"CASE WHEN {value} < '!' OR {value}[-1] < '!' THEN trim({value}, {_WHITE_SPACE}) ELSE {value} END"


def declared_type(source: Source, column: str) -> str:
    """The declared type; only what a type can look like reaches the SQL."""
    declared = source.transform.types[column]
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_ ]*(\(\d+(, *\d+)?\))?", declared):
        raise no_such_type(source, column)
    return declared


def no_such_type(source: Source, column: str) -> ConfigurationError:
    """The error for a declared type that DuckDB does not have."""
    return ConfigurationError(
        f"source {source.source!r}: transform.types.{column}: {source.transform.types[column]!r}; allowed: a type of "
        "DuckDB, such as DATE, INTEGER, VARCHAR or DECIMAL(10,2), of at most 38 digits"
    )
