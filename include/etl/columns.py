"""A column of the source as it is published: converted to its declared type, or trimmed."""

from __future__ import annotations

import re

from include.etl.config import Source
from include.etl.duck import quote
from include.etl.errors import ConfigurationError

_WHITE_SPACE = "' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13)"


def converted(source: Source, column: str, kind: str) -> str:
    """The SQL expression for the published value of a column that DuckDB reads as `kind`."""
    value = quote(column)
    if column in source.transform.types:
        return f"CAST({value} AS {declared_type(source, column)})"
    return _trimmed(value) if kind == "VARCHAR" and source.transform.trim else value


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
