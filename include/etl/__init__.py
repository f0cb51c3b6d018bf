"""Everything this project does, as one Python package.

In a notebook:

    from include.etl import run_source

    result = run_source("polyclinic_visits", last_n_days=7)
    result.manifest["rows"]
    result.to_pandas()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.etl.run import Result as Result
    from include.etl.run import run_source as run_source

__all__ = ["Result", "run_source"]


def __getattr__(name: str) -> Any:
    """Import on first use: DAG parsing imports this package and must not pay for pyarrow and DuckDB."""
    if name in __all__:
        from include.etl import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
