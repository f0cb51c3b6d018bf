"""Cleans and standardises what was extracted: duplicates, own steps, types, text, names, metadata columns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from include.etl import duck, duplicates, key_equality, quarantine, ranges, sorted_file
from include.etl.columns import converted, declared_type, no_such_type
from include.etl.completeness import extraction as completeness
from include.etl.completeness.transformation import check_kept
from include.etl.config import Source
from include.etl.duck import count, key_passes, parquet, quote, text
from include.etl.duplicates import NUMBER, REPEATED, Judged
from include.etl.errors import DataError, SchemaChanged
from include.etl.handover import DELETED_AT, METADATA, Extracted, KeyEquality, Plan, Position, Transformed, written
from include.etl.horizon import degraded_by
from include.etl.key_equality import folded
from include.etl.names import published_name, published_names
from include.etl.records.manifest import OWN
from include.etl.records.run import Counter, Run, measured
from include.etl.slices import extracted_by
from include.etl.storage import publish, seal
from include.etl.transforms import apply_step

log = logging.getLogger("etl.transform")


def transform(run: Run, plan: Plan, extracted: Sequence[Extracted]) -> Transformed:
    """One interim file, sorted by partition and key so that the same rows give the same files."""
    with measured(run, "transform") as counter:
        extracted = extracted_by(plan, extracted, run.source.source)
        folder = run.storage.fresh_folder("interim", run.source.source, run.key)
        raw = [run.storage.absolute(part) for slice_ in extracted for part in slice_.parts]
        read = sum(slice_.rows for slice_ in extracted)
        with duck.session(run.source.memory_limit_mb, folder / ".scratch") as connection:
            _check_types(connection, run.source)
            completeness.check_unchanged(run, connection, extracted)
            _check_parts(run.source, raw)
            kept, quarantined = quarantine.without(run, connection, raw, folder)
            slices = _as_read(extracted, kept)
            raw = [part for slice_ in slices for part in slice_]
            equal = key_equality.of_slices(extracted)
            key_equality.check_known(connection, run.source, raw, equal)
            keys = [folded(f"rows.{quote(column)}", equal.get(column)) for column in run.source.primary_key]
            rows = _without_duplicates(connection, run.source, raw, keys)
            unique, surplus = count(connection, rows), _surplus(connection, run.source, raw, keys)
            snapshots = all(slice_.consistency == "snapshot" for slice_ in extracted)
            judged = duplicates.judge(connection, run.source, keys, slices, snapshots=snapshots)
            for number, step in enumerate(run.source.transform.steps):
                rows = apply_step(connection, step, rows, folder / f".step-{number}.parquet")
            first_read = min(slice_.extracted_at for slice_ in extracted)
            path = _write(connection, run, plan, rows, raw, folder, first_read)
            published = count(connection, parquet([path]))
            check_kept(run.source, read=read - quarantined, surplus=surplus, unique=unique, written=published)
            if not _keys_as_read(connection, run.source, raw):
                _check_conversion(connection, run.source, rows, equal)
                _check_keys(connection, run.source, path, equal)
        counter.rows, counter.bytes = read, path.stat().st_size
        removed = {"quarantined": quarantined, "identical copy": judged.copies}
        removed |= {_again(run.source): read - quarantined - unique - judged.copies}
        removed |= {OWN: unique - published}
        counter.facts["removed"] = {why: count for why, count in removed.items() if count}
        _tell(run.source, judged, counter)
        return Transformed(
            parts=[run.storage.relative(path)],
            rows=published,
            removed=counter.facts["removed"],
            caveats=list(judged.caveats),
            unverified=list(judged.unverified),
        )


def _as_read(extracted: Sequence[Extracted], parts: Sequence[Path]) -> list[list[Path]]:
    """The parts of each slice, the slice that was read last at the end: its rows are the newest."""
    left = iter(parts)
    slices = [(slice_.extracted_at, [next(left) for _ in slice_.parts]) for slice_ in extracted]
    return [own for _, own in sorted(slices, key=lambda one: one[0])]


def _tell(source: Source, judged: Judged, counter: Counter) -> None:
    for caveat in judged.caveats:
        log.warning("%s: %s", source.source, caveat)
    counter.facts["conditions"] = degraded_by(judged.degraded)


def _check_types(connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Refuse declared types that DuckDB does not have, before any work is done."""
    for column in source.transform.types:
        try:
            connection.sql(f"SELECT NULL::{declared_type(source, column)}").fetchall()
        except duckdb.Error:
            raise no_such_type(source, column) from None


def _check_parts(source: Source, parts: Sequence[Path]) -> None:
    """Refuse parts with different columns, which DuckDB would make fit: somebody altered the table between slices."""
    first, *rest = (pq.read_schema(part) for part in parts)
    if any(schema != first for schema in rest):
        raise SchemaChanged(
            f"source {source.source!r}: the columns changed while the source was read: its slices do not have the "
            "same ones. Nothing was published; clear the run, so that all of it is read again"
        )


def _kinds(connection: duckdb.DuckDBPyConnection, rows: str) -> dict[str, str]:
    """Columns and their types in DuckDB."""
    return {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()}


def _keys_as_read(connection: duckdb.DuckDBPyConnection, source: Source, raw: Sequence[Path]) -> bool:
    """Whether keys are published as they were read, so that different ones stay different."""
    kinds = _kinds(connection, parquet(raw))
    same = (converted(source, column, kinds[column]) == quote(column) for column in source.primary_key)
    return not source.transform.steps and all(same)


def _check_conversion(
    connection: duckdb.DuckDBPyConnection, source: Source, rows: str, equal: Mapping[str, KeyEquality]
) -> None:
    """Refuse conversions that make keys one which are two to the source, whatever their cursors say.

    Where keys of different runs are compared, the other key may come with another run: there every key must be
    published so that it can be told back from what is published.
    """
    kinds = _kinds(connection, rows)
    if not source.primary_key or any(column not in kinds for column in source.primary_key):
        return  # a step has removed the key column; load says so with the columns there are
    read, published, changed = [], [], []
    for column in source.primary_key:
        kind, value = kinds[column], converted(source, column, kinds[column])
        equality = equal.get(column) if kind == "VARCHAR" else None
        back = folded(f"TRY_CAST({value} AS {kind})", equality)
        read.append(folded(quote(column), equality))
        published.append(back)
        changed.append(f"{back} IS DISTINCT FROM {read[-1]}")
    altered = zip(source.primary_key, changed, strict=True)
    found = [column for column, other in altered if count(connection, f"{rows} WHERE {other}")]
    if found and key_equality.compares(source):
        raise key_equality.conversion_changes(source, found, count(connection, f"{rows} WHERE {' OR '.join(changed)}"))
    if found:
        _check_one_to_one(connection, source, rows, read, published)


def _check_one_to_one(
    connection: duckdb.DuckDBPyConnection, source: Source, rows: str, read: Sequence[str], published: Sequence[str]
) -> None:
    """Refuse a key that several keys, as they were read, are published as."""
    one, other = duplicates.names(published), [f"_read{number}" for number in range(len(read))]
    values = [f"{value} AS {name}" for value, name in zip([*published, *read], [*one, *other], strict=True)]
    pairs = f"(SELECT DISTINCT {', '.join(values)} FROM {rows})"
    known = " AND ".join(f"{name} IS NOT NULL" for name in one)
    twice = sum(
        count(
            connection,
            f"(SELECT 1 FROM {pairs} WHERE {known} AND {part} GROUP BY {', '.join(one)} HAVING count(*) > 1)",
        )
        for part in key_passes(one, count(connection, rows))
    )
    if twice:
        raise _made_equal(source, twice)


def _made_equal(source: Source, keys: int) -> DataError:
    return DataError(
        f"source {source.source!r}: {keys} primary keys come twice after trimming, conversions and own steps; "
        "they were different in the source"
    )


def _check_keys(
    connection: duckdb.DuckDBPyConnection, source: Source, path: Path, equal: Mapping[str, KeyEquality]
) -> None:
    """Refuse to publish a key twice: own steps can make different keys one."""
    if not source.transform.steps:
        return
    kinds, names = _kinds(connection, parquet([path])), []
    for column in source.primary_key:
        name = published_name(source, column)
        names.append(folded(quote(name), equal.get(column) if kinds.get(name) == "VARCHAR" else None))
    if not names:
        return
    known = " AND ".join(f"{name} IS NOT NULL" for name in names)
    keys = ", ".join([*names, *(quote(published_name(source, column)) for column in _version(source))])
    try:
        found = 0
        for part in key_passes(names, pq.read_metadata(path).num_rows):
            rows = f"{parquet([path])} WHERE {known} AND {part}"
            found += count(connection, f"(SELECT 1 FROM {rows} GROUP BY {keys} HAVING count(*) > 1)")
    except duckdb.BinderException:
        return  # a step has removed the key column; load says so with the columns there are
    if found:
        raise _made_equal(source, found)


def _without_duplicates(
    connection: duckdb.DuckDBPyConnection, source: Source, parts: Sequence[Path], keys: Sequence[str]
) -> str:
    """A relation of the rows, each once: with `merge` the latest by cursor of each key, with `append` each version.

    Of equals the last one read stays. Most keys come once, so only those that come again are compared; of versions, one
    without cursor value is the oldest. A row whose key is NULL is no version of another one.
    """
    if not keys or not duplicates.collect(connection, keys, parts):
        return parquet(parts)
    names, cursor = duplicates.names(keys), source.cursor and quote(source.cursor.column)
    version = f"({cursor} IS NOT NULL, {cursor}, {NUMBER})" if cursor else NUMBER
    numbered, key = f"{parquet(parts, numbered=True)} AS rows", ", ".join([*names, "_at"])
    connection.execute(
        f"CREATE TEMP TABLE latest AS SELECT {key}, max_by(_number, _version) AS _number FROM "
        f"(SELECT {duplicates.named(keys)}, {_at(source)} AS _at, {NUMBER} AS _number, {version} AS _version "
        f"FROM {numbered} {duplicates.repeated_only(keys)}) GROUP BY {key}"
    )
    same = " AND ".join(f"latest.{name} = {value}" for name, value in zip(names, keys, strict=True))
    same += f" AND latest._at IS NOT DISTINCT FROM {_at(source)}"
    older = f"SELECT 1 FROM latest WHERE {same} AND latest._number <> {NUMBER}"
    return f"(SELECT * EXCLUDE (file_row_number) FROM {numbered} WHERE NOT EXISTS ({older}))"


def _version(source: Source) -> list[str]:
    """What tells versions of a key apart that are all published: with `append` the cursor.

    So two versions in one window are published as they would be in two, and it does not matter how windows are cut.
    """
    told = source.primary_key and source.cursor and source.load == "append"
    return [source.cursor.column] if told and source.cursor else []


def _at(source: Source) -> str:
    return next((f"rows.{quote(column)}" for column in _version(source)), "NULL")


def _again(source: Source) -> str:
    """Why rows are left out that are no copies of one snapshot."""
    return "read by another slice" if _version(source) else "older version"


def _surplus(connection: duckdb.DuckDBPyConnection, source: Source, parts: Sequence[Path], keys: Sequence[str]) -> int:
    """Rows too many, from the number of rows of each key, or version; a key with a NULL in it is none."""
    if not source.primary_key:
        return 0
    known = " AND ".join(f"{name} IS NOT NULL" for name in duplicates.names(source.primary_key))
    repeated = f"SELECT coalesce(sum(_copies), 0), count(*) FROM {REPEATED} WHERE {known}"
    ((rows, stay),) = connection.sql(repeated).fetchall()
    if rows and _version(source):
        versions = f"SELECT DISTINCT {duplicates.named(keys)}, {_at(source)} AS _at FROM {parquet(parts)} AS rows"
        stay = count(connection, f"({versions} {duplicates.repeated_only(keys)})")
    return int(rows) - int(stay)


def _write(
    connection: duckdb.DuckDBPyConnection,
    run: Run,
    plan: Plan,
    rows: str,
    raw: Sequence[Path],
    folder: Path,
    extracted_at: datetime,
) -> Path:
    """Write the published columns, and the metadata columns, into one sorted Parquet file.

    `raw`: the files that the rows come from. They are cut into ranges only where they are all that lies in these.
    """
    source, staged, final = run.source, folder / ".part-00000.tmp", folder / "part-00000.parquet"
    columns = _kinds(connection, rows)
    names = published_names(source, list(columns))
    values = {column: converted(source, column, kind) for column, kind in columns.items()}
    selected = [f"{value} AS {quote(names[column])}" for column, value in values.items()]
    order = [source.output.partition_by, *(names.get(key) for key in (*source.primary_key, *_version(source)))]
    sorting = [name for name in order if name in names.values() and name]
    leading = next((column for column in columns if [names[column]] == sorting[:1]), None)
    cut = leading and values[leading] == quote(leading)  # its order is that of the files' statistics
    cut = cut and rows == parquet(raw)
    cuts = ranges.conditions(raw, leading, columns[leading], quote(sorting[0])) if leading and cut else []
    query = f"SELECT {', '.join([*selected, *_metadata(source, plan, extracted_at)])} FROM {rows}"
    write = partial(sorted_file.write, connection, query, list(map(quote, sorting)), cuts, raw, staged)
    try:
        try:
            write()
        except duckdb.OutOfMemoryException:
            staged.unlink(missing_ok=True)
            duck.widen(connection, source.memory_limit_mb)
            write()
    except duckdb.ConversionException:
        raise _not_convertible(connection, source, rows) from None
    seal(staged)
    publish(staged, final)
    return final


def _metadata(source: Source, plan: Plan, extracted_at: datetime) -> list[str]:
    """The columns that are added, as expressions."""
    window = plan.window
    values = (source.source, plan.run_id, extracted_at, window.start, window.end)
    position = "BIGINT" if isinstance(window.end, int) else "TIMESTAMPTZ"
    kinds = ("VARCHAR", "VARCHAR", "TIMESTAMPTZ", position, position)
    named = zip(METADATA, values, kinds, strict=True)
    found = [f"{_literal(value)}::{kind} AS {quote(name)}" for name, value, kind in named]
    return [*found, f"NULL::TIMESTAMPTZ AS {DELETED_AT}"] if source.deletes == "mark" else found


def _not_convertible(connection: duckdb.DuckDBPyConnection, source: Source, rows: str) -> DataError:
    """Name the columns that do not fit their types, and how many rows; never the values."""
    found, kinds = [], _kinds(connection, rows)
    for column in source.transform.types:
        condition = f"{quote(column)} IS NOT NULL AND TRY({converted(source, column, kinds[column])}) IS NULL"
        if bad := count(connection, f"{rows} WHERE {condition}"):
            found.append(f"column {column!r}: {bad} rows do not convert to {declared_type(source, column)} exactly")
    return DataError(f"source {source.source!r}: transform.types: {'; '.join(found) or 'a value does not convert'}")


def _literal(value: str | Position | None) -> str:
    if value is None:
        return "NULL"
    return text(value if isinstance(value, str) else written(value))
