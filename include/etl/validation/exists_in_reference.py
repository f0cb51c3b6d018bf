"""Referential integrity, and the example of a custom expectation: keys must exist in a reference.

A reference is a view that the run provides: published data of another source, or keys read from the database.
DuckDB does the anti join; no key is ever fetched. A key with a NULL in it is no key, and not counted.
"""

from __future__ import annotations

from typing import Any, ClassVar

import sqlalchemy as sa
from great_expectations.compatibility.pydantic import Field, StrictStr, root_validator
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from great_expectations.expectations.row_conditions import RowConditionType

from include.etl.validation.datasource import DuckDBExecutionEngine

METRIC = "table.keys_not_in_reference"


class KeysNotInReference(TableMetricProvider):
    """How many rows there are, how many have a key, and how many of those keys the reference lacks."""

    metric_name = METRIC
    domain_keys = ("batch_id", "row_condition")
    value_keys = ("column", "reference", "reference_column")

    @metric_value(engine=DuckDBExecutionEngine)
    def _duckdb(
        cls,  # noqa: N805 - GX makes it a class method
        execution_engine: DuckDBExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        **_: Any,
    ) -> dict[str, int]:
        rows, _compute, _accessor = execution_engine.get_compute_domain(metric_domain_kwargs, MetricDomainTypes.TABLE)
        values = metric_value_kwargs
        query = _count_missing(rows, values["column"], values["reference"], values["reference_column"])
        total, checked, missing = execution_engine.execute_query(query).one()
        return {"total": total, "checked": checked, "missing": missing}


def _names(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _count_missing(
    rows: Any, column: str | list[str], reference: str, reference_column: str | list[str]
) -> sa.Select[tuple[int, int, int]]:
    batch = rows.subquery() if isinstance(rows, sa.Select) else rows
    mine: list[Any] = [sa.column(name).label(f"key_{i}") for i, name in enumerate(_names(column))]
    theirs: list[Any] = [sa.column(name).label(f"key_{i}") for i, name in enumerate(_names(reference_column))]
    keys = sa.select(*mine).select_from(batch).subquery("keys")
    known = sa.select(*theirs).select_from(sa.table(reference)).subquery("known")
    whole = sa.and_(*[key.is_not(None) for key in keys.c])
    exists = sa.exists().where(*[keys.c[key.name] == key for key in known.c])
    count = sa.func.count()
    return sa.select(
        sa.select(count).select_from(keys).scalar_subquery(),
        sa.select(count).select_from(keys).where(whole).scalar_subquery(),
        sa.select(count).select_from(keys).where(whole, ~exists.correlate(keys)).scalar_subquery(),
    )


class ExpectColumnValuesToExistInReference(BatchExpectation):
    """Every key (one column or several) exists in the columns of a reference, `mostly`."""

    column: StrictStr | list[StrictStr]
    reference: StrictStr = Field(min_length=1)
    reference_column: StrictStr | list[StrictStr]
    mostly: float = Field(default=1, ge=0, le=1)
    row_condition: RowConditionType = None

    metric_dependencies: ClassVar[tuple[str, ...]] = (METRIC,)
    domain_keys: ClassVar[tuple[str, ...]] = ("batch_id", "row_condition")
    success_keys: ClassVar[tuple[str, ...]] = ("column", "reference", "reference_column", "mostly")

    @root_validator(skip_on_failure=True)
    def _pairs_of_columns(cls, values: dict[str, Any]) -> dict[str, Any]:  # noqa: N805
        mine, theirs = _names(values["column"]), _names(values["reference_column"])
        if not mine or len(mine) != len(theirs):
            raise ValueError(f"'column' and 'reference_column' must pair up, got {len(mine)} and {len(theirs)}")
        return values

    def _validate(self, metrics: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        total, checked, missing = (metrics[METRIC][key] for key in ("total", "checked", "missing"))
        return {
            "success": checked == 0 or (checked - missing) / checked >= self.mostly,
            "result": {
                "element_count": total,
                "unexpected_count": missing,
                "unexpected_percent": 100 * missing / checked if checked else 0.0,
            },
        }
