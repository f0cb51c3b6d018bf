"""Uniqueness of keys in bounded memory, whatever their number.

Great Expectations' own queries join the whole table to the counts of its keys. Here the keys alone are counted, some
millions at once.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

from include.etl.duck import key_passes, quote
from include.etl.validation.datasource import DuckDBExecutionEngine


def count_repeated(engine: DuckDBExecutionEngine, rows: sa.Selectable, columns: list[str]) -> int:
    """Number of rows whose key another row has too. A key with a NULL in it is no key, and not counted."""
    keys: list[sa.ColumnElement[Any]] = [sa.column(name) for name in columns]
    whole = sa.and_(*[key.is_not(None) for key in keys])
    total = int(engine.execute_query(_select(sa.func.count(), rows)).scalar_one())
    found = 0
    for part in key_passes([quote(name) for name in columns], total):
        groups = _select(sa.func.count().label("times"), rows).where(whole, sa.literal_column(part)).group_by(*keys)
        repeated = groups.having(sa.func.count() > 1).subquery("repeated")
        times = _select(sa.func.coalesce(sa.func.sum(repeated.c.times), 0), repeated)
        found += int(engine.execute_query(times).scalar_one())
    return found


def _select(what: Any, rows: Any) -> Any:
    return sa.select(what).select_from(rows.subquery("rows") if isinstance(rows, sa.Select) else rows)


class RepeatedValues(TableMetricProvider):
    """What `expect_column_values_to_be_unique` counts."""

    metric_name = "column_values.unique.unexpected_count"
    domain_keys = ("batch_id", "table", "column", "row_condition", "condition_parser")

    @metric_value(engine=DuckDBExecutionEngine)
    def _duckdb(cls, execution_engine: DuckDBExecutionEngine, metric_domain_kwargs: dict[str, Any], **_: Any) -> int:  # noqa: N805 - GX makes it a class method
        rows = execution_engine.get_domain_records(metric_domain_kwargs)
        return count_repeated(execution_engine, rows, [metric_domain_kwargs["column"]])


class RepeatedKeys(TableMetricProvider):
    """What `expect_compound_columns_to_be_unique` counts."""

    metric_name = "compound_columns.unique.unexpected_count"
    domain_keys = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")

    @metric_value(engine=DuckDBExecutionEngine)
    def _duckdb(cls, execution_engine: DuckDBExecutionEngine, metric_domain_kwargs: dict[str, Any], **_: Any) -> int:  # noqa: N805
        rows = execution_engine.get_domain_records(metric_domain_kwargs)
        return count_repeated(execution_engine, rows, metric_domain_kwargs["column_list"])
