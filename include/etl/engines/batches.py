"""What all engines do with rows: name their columns, keep batches within the limits, and turn values into Arrow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from include.etl.engines.base import Engine, Limits
from include.etl.errors import ConfigurationError, DataError

BYTES_PER_VALUE = 16
"""What a number or a date is taken to weigh in a batch."""
LOB_BYTES = 1 << 20
"""What a value of a type without a maximum length is taken to weigh before one was seen."""

Row = Sequence[Any]


def make_schema(fields: Sequence[pa.Field], engine: Engine) -> pa.Schema:
    """The schema of a result; a result without columns, or with two of the same name, is a ConfigurationError."""
    if not fields:
        raise ConfigurationError(f"{engine}: the query returns no columns")
    twice = [name for name, count in Counter(field.name for field in fields).items() if count > 1]
    if twice:
        raise ConfigurationError(
            f"{engine}: the query returns more than one column named {', '.join(map(repr, twice))}; "
            "give each a name of its own with `as`"
        )
    return pa.schema(fields)


def to_array(convert: Callable[[], pa.Array], field: pa.Field, engine: Engine) -> pa.Array:
    """What `convert` gives; a value that does not fit is a DataError that names the column and not the value."""
    try:
        return convert()
    except (pa.ArrowException, ValueError, TypeError, ArithmeticError):
        raise unfit(field, engine) from None


def unfit(field: pa.Field, engine: Engine) -> DataError:
    """The error for a value that has no exact form in its column's type."""
    return DataError(
        f"{engine}: column {field.name!r} holds a value that does not fit its type {field.type}; "
        "correct it at the source, or convert the column in the query (cast it to text to keep it as it stands)"
    )


def gather(rows: Iterable[Row], schema: pa.Schema, limits: Limits) -> Iterator[list[Row]]:
    """Lists of at most `batch_rows` rows and about `batch_bytes`; one row too many is all that is ever held."""
    wide = [i for i, field in enumerate(schema) if is_wide(field.type)]
    fixed = BYTES_PER_VALUE * len(schema)
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += fixed + sum([len(row[i]) for i in wide if hasattr(row[i], "__len__")])
        if len(batch) >= limits.batch_rows or size >= limits.batch_bytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def is_wide(kind: pa.DataType) -> bool:
    """Whether values of this type have no fixed size."""
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def sliced(batch: pa.RecordBatch, limits: Limits) -> Iterator[pa.RecordBatch]:
    """The batch cut into equal pieces that keep the limits."""
    if batch.num_rows == 0:
        return
    pieces = max(math.ceil(batch.num_rows / limits.batch_rows), math.ceil(batch.nbytes / limits.batch_bytes))
    rows = math.ceil(batch.num_rows / pieces)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def joined(batches: Iterable[pa.RecordBatch], limits: Limits) -> Iterator[pa.RecordBatch]:
    """Small batches put together, as many as the limits allow; one that is too large by itself stays as it is."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        if waiting and (rows + batch.num_rows > limits.batch_rows or size + batch.nbytes > limits.batch_bytes):
            yield pa.concat_batches(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
    if waiting:
        yield pa.concat_batches(waiting)


def rows_at_once(widths: Iterable[int], limits: Limits) -> int:
    """How many rows to fetch in one go, by the most bytes that each column of a row may take."""
    return max(1, min(limits.batch_rows, limits.batch_bytes // max(1, sum(widths))))


class OneStream:
    """Lets one stream at a time run on a connection, and ends it together with its session."""

    def __init__(self) -> None:
        self._running: Generator[pa.RecordBatch] | None = None
        self._closed = False

    @property
    def running(self) -> bool:
        """Whether a stream holds the connection."""
        return self._running is not None

    def run(self, batches: Generator[pa.RecordBatch]) -> Generator[pa.RecordBatch]:
        """The same batches, holding the connection from the first to the last."""
        self.refuse_second()
        self._running = batches
        try:
            yield from batches
        finally:
            self._running = None
        self._refuse_closed()

    def refuse_second(self) -> None:
        """Raise when the connection cannot take another query now: that is a mistake of the program."""
        self._refuse_closed()
        if self.running:
            raise RuntimeError("a session reads one stream at a time: finish or close the other one first")

    def _refuse_closed(self) -> None:
        if self._closed:
            raise RuntimeError("the session was closed before its stream was read to the end")

    def close(self) -> None:
        """End what still runs; whoever goes on reading it gets an error and not a short result."""
        self._closed = True
        if self._running is not None:
            self._running.close()
