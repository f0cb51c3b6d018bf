"""How much memory DuckDB gets of a task's."""

from __future__ import annotations

import pytest

from include.etl.duck import share, share_for_keys


@pytest.mark.parametrize(
    ("limit", "rows", "granted"),
    [(2048, 0, 204), (2048, 6_000_000, 204), (2048, 60_000_000, 682), (512, 60_000_000, 200), (8192, 60_000_000, 819)],
)
def test_keys_of_many_rows_get_more_but_never_more_than_a_third(limit: int, rows: int, granted: int) -> None:
    assert share_for_keys(limit, rows) == granted
    assert share_for_keys(limit, rows) <= max(limit // 3, share(limit, part=10))
