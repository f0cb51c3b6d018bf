"""Columns against those that were published before: what differs, and whether both can be read together.

Two files can be read together where the type of a column has only become wider: readers (DuckDB's `union_by_name`,
Arrow's `unify_schemas`) then give every value as it is. Nothing else is ever made to fit in silence.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence

import pyarrow as pa

from include.etl.config import Source
from include.etl.errors import SchemaChanged
from include.etl.handover import DELETED_AT, METADATA
from include.etl.records.manifest import Manifest, SchemaChange

log = logging.getLogger("etl.schema")
_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}
"""Bits of a whole number -> decimal digits that Arrow wants for it."""


def encoded(schema: pa.Schema) -> str:
    """The schema as the manifest holds it."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def decoded(text: str) -> pa.Schema:
    """The schema that a manifest holds."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def widens(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether every value of the old type is the same value in the new one, for all readers."""
    if old == new or pa.types.is_null(old):
        return True
    if pa.types.is_integer(old):
        return _widens_integer(old, new)
    if pa.types.is_decimal(old) and pa.types.is_decimal128(new):
        return bool(new.scale >= old.scale and new.precision - new.scale >= old.precision - old.scale)
    if pa.types.is_floating(old) and pa.types.is_floating(new):
        return bool(new.bit_width > old.bit_width)
    if pa.types.is_timestamp(old) and pa.types.is_timestamp(new):
        return bool(old.tz == new.tz and _finer(old.unit, new.unit))
    if pa.types.is_time(old) and pa.types.is_time(new):
        return _finer(old.unit, new.unit)
    texts = (pa.types.is_string, pa.types.is_large_string), (pa.types.is_binary, pa.types.is_large_binary)
    return any(any(test(old) for test in kind) and any(test(new) for test in kind) for kind in texts)


def _widens_integer(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_decimal128(new):
        return bool(new.precision - new.scale >= _DIGITS[old.bit_width])
    if not pa.types.is_integer(new) or new.bit_width <= old.bit_width:
        return False
    return bool(pa.types.is_signed_integer(new) or pa.types.is_unsigned_integer(old))


def _finer(old: str, new: str) -> bool:
    """Nanoseconds are left out: they reach from 1677 to 2262 only."""
    order = ("s", "ms", "us")
    return old in order and new in order and order.index(old) < order.index(new)


def differences(old: pa.Schema, new: pa.Schema) -> list[SchemaChange]:
    """New, missing and re-typed columns; the order of columns means nothing."""
    before, after = _own(old), _own(new)
    found = []
    for position, (name, kind) in enumerate(before.items()):
        if name not in after:
            hint = _renamed(position, kind, before, after)
            found.append(SchemaChange(kind="missing", column=name, old=str(kind), hint=hint))
        elif after[name] != kind:
            readable = widens(kind, after[name])
            change = SchemaChange(kind="type", column=name, old=str(kind), new=str(after[name]), readable=readable)
            found.append(change)
    return found + [SchemaChange(kind="new", column=n, new=str(t)) for n, t in after.items() if n not in before]


def _own(schema: pa.Schema) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in schema if field.name not in (*METADATA, DELETED_AT)}


def _renamed(position: int, kind: pa.DataType, before: dict[str, pa.DataType], after: dict[str, pa.DataType]) -> str:
    """A guess, never acted on: a new column of the same type in the same place."""
    name = list(after)[position] if position < len(after) else None
    if name is None or name in before or after[name] != kind:
        return ""
    return f"perhaps it is called {name!r} now: same place, same type"


def extracted_changes(source: Source, schema: pa.Schema, standing: Sequence[Manifest]) -> list[SchemaChange]:
    """The result of the query against the one extracted last. A declared type makes a column the same anyway."""
    last = _last(standing)
    if last is None or last.source_schema is None:
        return []
    found = differences(decoded(last.source_schema), schema)
    return [change for change in found if change.kind != "type" or change.column not in source.transform.types]


def published_changes(source: Source, schema: pa.Schema, standing: Sequence[Manifest]) -> list[SchemaChange]:
    """The columns to be published against those published last."""
    last = _last(standing)
    if last is None:
        return []
    found = differences(decoded(last.arrow_schema), schema)
    if last.partition_by != source.output.partition_by:
        names = {"old": last.partition_by or "nothing", "new": source.output.partition_by or "nothing"}
        found.append(SchemaChange(kind="partition", column="partition_by", readable=False, **names))
    return found


def unreadable(schema: pa.Schema, standing: Sequence[Manifest]) -> list[SchemaChange]:
    """Types that cannot be read together with those of any of these publications."""
    found = [change for text in {one.arrow_schema for one in standing} for change in differences(decoded(text), schema)]
    return [change for change in found if not change.readable]


def judge(source: Source, changes: Sequence[SchemaChange], *, replaces: bool) -> None:
    """Tell what differs, or refuse it. `replaces`: nothing stays that would have to be read together with the new rows.

    Raises:
        SchemaChanged: the policy allows no change, or not this one.
    """
    policy = source.schema_changes
    apart = [change for change in changes if not change.readable]
    if changes and policy == "fail":
        raise _refused(source, changes, "schema_changes: fail allows none; if it is right, set warn or evolve")
    if apart and not (policy == "evolve" and replaces):
        way_out = (
            "run once with mode full and schema_changes: evolve, which replaces everything published; or give the "
            "column its former type, in the query or under transform.types"
        )
        raise _refused(source, apart, way_out)
    for change in changes:
        log.log(logging.WARNING if policy == "warn" else logging.INFO, "source %s: %s", source.source, change)


def _refused(source: Source, changes: Sequence[SchemaChange], way_out: str) -> SchemaChanged:
    lines = "; ".join(map(str, changes))
    return SchemaChanged(
        f"source {source.source!r}: the columns are not those published before: {lines}. Nothing was published; "
        f"allowed: {way_out}"
    )


def _last(standing: Sequence[Manifest]) -> Manifest | None:
    return max(standing, key=lambda one: one.published_at, default=None)
