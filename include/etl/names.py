"""The names columns are published under."""

from __future__ import annotations

import re
from collections.abc import Sequence

from include.etl.config import Source
from include.etl.errors import ConfigurationError
from include.etl.handover import DELETED_AT, METADATA


def published_name(source: Source, column: str) -> str:
    """The published name of one column of the source."""
    plain = snake_case(column) if source.transform.names == "snake_case" else column
    return source.transform.rename.get(column) or plain


def published_names(source: Source, columns: Sequence[str]) -> dict[str, str]:
    """Column -> published name, in order.

    Raises:
        ConfigurationError: `transform` names a column that is not there, or two columns get one name.
    """
    for column in (*source.transform.rename, *source.transform.types):
        if column not in columns:
            raise ConfigurationError(
                f"source {source.source!r}: transform: column {column!r} does not exist; allowed: {', '.join(columns)}"
            )
    names = {column: published_name(source, column) for column in columns}
    # DuckDB, like many readers, does not tell capital letters from small ones.
    reserved = (*METADATA, DELETED_AT) if source.deletes == "mark" else METADATA
    taken = [name.casefold() for name in (*names.values(), *reserved)]
    for column, name in names.items():
        if taken.count(name.casefold()) > 1:
            raise ConfigurationError(
                f"source {source.source!r}: column {column!r} would be published as {name!r}, which another column "
                "is called too; give it a name of its own under transform.rename"
            )
    return names


def snake_case(name: str) -> str:
    """`VisitDate`, `Visit date`, `VISIT-DATE` -> `visit_date`; letters and digits of any script stay."""
    parted = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3_\2\4", name.strip())
    return re.sub(r"\W+|_+", "_", parted).strip("_").lower() or "column"
