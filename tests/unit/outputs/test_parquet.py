"""What Parquet files look like inside, and to the readers that people use."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.etl.errors import DataError
from include.etl.outputs import parquet
from include.etl.outputs.parquet import ParquetOutput


def written(table: pa.Table, path: Path, batch_rows: int = 10_000) -> pq.FileMetaData:
    ParquetOutput().write(table.to_reader(max_chunksize=batch_rows), path)
    return pq.read_metadata(path)


def test_row_groups_are_bounded_by_rows(tmp_path: Path) -> None:
    metadata = written(pa.table({"n": range(300_000)}), tmp_path / "file")
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sizes == [130_000, 130_000, 40_000]


def test_one_large_batch_is_cut_at_the_bound(tmp_path: Path) -> None:
    metadata = written(pa.table({"n": range(300_000)}), tmp_path / "file", batch_rows=300_000)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [131_072, 131_072, 37_856]


def test_row_groups_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 100_000)
    table = pa.table({"text": [chr(97 + n % 26) * 1000 for n in range(1000)]})
    metadata = written(table, tmp_path / "file", batch_rows=700)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    assert sum(group.num_rows for group in groups) == 1000
    assert max(group.num_rows for group in groups) < 100
    assert ParquetOutput().read(tmp_path / "file", table.schema).read_all().equals(table)


def test_columns_are_zstd_with_statistics(tmp_path: Path) -> None:
    group = written(pa.table({"n": [3, None, 1]}), tmp_path / "file").row_group(0)
    assert group.column(0).compression == "ZSTD"
    statistics = group.column(0).statistics
    assert (statistics.min, statistics.max, statistics.null_count) == (1, 3, 1)


def test_a_dictionary_is_made_where_values_repeat(tmp_path: Path) -> None:
    table = pa.table({"id": range(50_000), "clinic": [f"PC-{n % 20:02}" for n in range(50_000)]})
    group = written(table, tmp_path / "file").row_group(0)
    assert [group.column(i).has_dictionary_page for i in range(2)] == [False, True]


def test_nested_types_are_kept(tmp_path: Path) -> None:
    table = pa.table({"tags": [["a", "b"], [], None], "pair": [{"x": 1}, None, {"x": None}]})
    written(table, tmp_path / "file")
    assert ParquetOutput().read(tmp_path / "file", table.schema).read_all().equals(table)


def test_the_refused_column_is_the_one_named(tmp_path: Path) -> None:
    table = pa.table({"n": [1], "odd": pa.array([None], pa.month_day_nano_interval()), "m": [2]})
    with pytest.raises(DataError, match=r"^column 'odd' \(month_day_nano_interval\): Parquet cannot hold"):
        written(table, tmp_path / "file")


def test_pandas_and_duckdb_read_what_was_written(tmp_path: Path) -> None:
    written(
        pa.table({"id": ["0012", ""], "fee": pa.array([None, "1.50"]).cast(pa.decimal128(10, 2))}),
        tmp_path / "f.parquet",
    )
    assert list(pd.read_parquet(tmp_path / "f.parquet")["id"]) == ["0012", ""]
    with duckdb.connect() as connection:
        found = connection.sql(f"SELECT count(*), sum(fee)::VARCHAR FROM '{tmp_path}/f.parquet'").fetchall()
    assert found == [(2, "1.50")]
