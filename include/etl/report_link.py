"""Where a run's validation report is found, and the button on the validate task that opens it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import BaseOperatorLink, conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

URL_PREFIX = "/validation-reports"


class ValidationReportLink(BaseOperatorLink):
    """Leads to the page that `plugins/validation_reports.py` serves."""

    @property
    def name(self) -> str:
        """Text of the button."""
        return "Validation report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Address of the report of this task's run."""
        return report_url(operator.dag_id, ti_key.run_id)


def report_url(dag_id: str, run_id: str) -> str:
    """Address of the report of a run."""
    base: str = conf.get("api", "base_url", fallback="") or ""
    return f"{base.rstrip('/')}{URL_PREFIX}/{quote(dag_id, safe='')}/{quote(run_id, safe='')}"


class ValidateOperator(PythonOperator):
    """A Python task with the report's button."""

    operator_extra_links = (ValidationReportLink(),)
