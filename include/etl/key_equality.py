"""Which keys are one to the source: `load: merge` and `deletes: mark` compare keys as the source itself does.

A column that takes `a` and `A` for equal lets a key be written anew without becoming another one. Compared by bytes it
would be published twice, or marked as deleted while it lives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

import duckdb
import pyarrow as pa

from include.etl.config import Source
from include.etl.duck import count, parquet, quote, text
from include.etl.engines.base import Query, Session
from include.etl.errors import ConfigurationError, DataError
from include.etl.handover import Extracted, KeyEquality

PRINTABLE = "[ -~]*"


def of_source(source: Source, session: Session, query: Query) -> dict[str, KeyEquality]:
    """Columns of the key that are not compared by their bytes; none where published keys are not looked up.

    Raises:
        ConfigurationError: keys cannot be compared as the source does; with the way out.
    """
    if not compares(source):
        return {}
    columns = session.schema(query)
    texts = [name for name in source.primary_key if pa.types.is_string(columns.field(name).type)]
    found = dict(session.key_equality(query, texts)) if texts else {}
    for name, equality in found.items():
        if equality.unknown:
            raise ConfigurationError(
                f"source {source.source!r}: {_needing(source)}: whether two keys are the same cannot be told as the "
                f"database does it: column {name!r} (primary_key): {equality.unknown}"
            )
    return found


def compares(source: Source) -> bool:
    """Whether keys of different runs are compared."""
    return source.load == "merge" or source.deletes == "mark"


def untold(source: Source, found: Mapping[str, KeyEquality]) -> list[str]:
    """What is to be known of columns of which the source does not tell how it compares them."""
    return [
        f"column {name!r} (primary_key) is compared by its bytes: {equality.untold}; where the source takes other "
        f"spellings for the same key, {_needing(source)} does not"
        for name, equality in found.items()
        if equality.untold
    ]


def of_slices(extracted: Sequence[Extracted]) -> dict[str, KeyEquality]:
    """What was found when the slices were read."""
    return {name: equality for slice_ in extracted for name, equality in slice_.keys.items()}


def check_known(
    connection: duckdb.DuckDBPyConnection, source: Source, parts: Sequence[Path], keys: Mapping[str, KeyEquality]
) -> None:
    """Refuse keys of which is not known which others the source takes for the same.

    Raises:
        DataError: with column, collation and number of rows.
    """
    for name, equality in keys.items():
        if not equality.ascii_only:
            continue
        beyond = f"{parquet(parts)} WHERE NOT regexp_full_match({quote(name)}, {text(PRINTABLE)})"
        if found := count(connection, beyond):
            raise DataError(
                f"source {source.source!r}: {_needing(source)}: {found} rows have other than plain ASCII characters in "
                f"column {name!r} (primary_key), of which cannot be told which ones {equality.collation} takes for "
                "equal; nothing was published. Select a canonical form of the column in a query, with a collation that "
                "compares bytes"
            )


def conversion_changes(source: Source, columns: Sequence[str], rows: int) -> DataError:
    """The error for keys that are not published as they were read, so that another one could be published as theirs."""
    named = ", ".join(map(repr, columns))
    return DataError(
        f"source {source.source!r}: {_needing(source)}: {rows} rows have a key that trimming or transform.types "
        f"publishes otherwise than it was read: column {named} (primary_key). Another key of the source could become "
        "the same, and one of the two rows would be lost; nothing was published. Set transform.trim: false, or leave "
        "the column out of transform.types, or select a canonical form of it in a query; then run once with mode full"
    )


def folded(value: str, equality: KeyEquality | None) -> str:
    """An expression of DuckDB that is the same for texts that are equal to the source."""
    if equality and equality.blanks:
        value = f"rtrim({value}, ' ')"
    if equality and equality.case:
        value = f"translate({value}, '{ascii_uppercase}', '{ascii_lowercase}')"
    return value


def _needing(source: Source) -> str:
    return "load: merge" if source.load == "merge" else "deletes: mark"
