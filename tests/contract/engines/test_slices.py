"""Slices that are cut by what the catalogue of each server tells hold every row exactly once."""

from __future__ import annotations

import pytest

from include.etl import slices
from include.etl.engines.base import Query, Statistics
from include.etl.errors import ConfigurationError
from tests.contract.engines.lab import Lab

ANALYSE = {
    "postgres": "analyze keyed",
    "mysql": "analyze table keyed",
    "mssql": "update statistics keyed",
    "oracle": "begin dbms_stats.gather_table_stats(user, 'KEYED'); end;",
}


def told(lab: Lab, table: str, column: str) -> Statistics:
    with lab.engine().session() as session:
        try:
            return session.statistics(table, column)
        except ConfigurationError as error:
            pytest.skip(f"STATISTICS ARE NOT TESTED: {error}")


@pytest.mark.parametrize(
    "sql",
    ["select k from keyed order by k", "with w as (select k from keyed) select k from w order by k"],
    ids=["order", "with"],
)
def test_slices_hold_every_row_once(server_lab: Lab, sql: str) -> None:
    lab, (table, column) = server_lab, ("KEYED", "K") if server_lab.database == "oracle" else ("keyed", "k")
    lab.execute("drop table if exists keyed")
    lab.execute("create table keyed (k integer primary key)")
    lab.execute(f"insert into keyed select i from {lab.series(1_000)}")
    lab.execute(ANALYSE[lab.database])
    found = told(lab, table, column)
    if not found.steps:
        pytest.skip("SLICES ARE NOT TESTED: the catalogue tells nothing of the column")
    cuts = slices.cut(column, found, 100)
    assert (len(cuts) > 1, found.leading) == (True, {column})
    with lab.engine().session() as session:
        assert slices.ascending(session, Query(sql), cuts, lab.engine().dialect)
        sizes, numbers = [], []
        for part in cuts:
            asked = slices.within(Query(sql), part, lab.engine().dialect)
            read = [n for batch in session.stream(asked).batches for n in batch.column(0).to_pylist()]
            sizes.append(len(read))
            numbers += read
    assert sorted(map(int, numbers)) == list(range(1, 1_001))
    assert max(sizes) < 400
    lab.execute("drop table keyed")
