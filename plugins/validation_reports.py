"""Serves validation reports inside Airflow's own web server, to users who may see the DAG."""

from __future__ import annotations

from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.plugins_manager import AirflowPlugin
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse

from include.etl.report_link import URL_PREFIX, ValidationReportLink
from include.etl.sources import load_sources
from include.etl.storage import Storage, run_key

# The page loads nothing and runs nothing.
HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}

app = FastAPI(title="Validation reports", docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/{dag_id}/{run_id:path}", dependencies=[Depends(requires_access_dag("GET"))])
def report(dag_id: str, run_id: str) -> HTMLResponse:
    """The report of one run; 404 before its validate task has written it."""
    sources = {name: found.source for found in load_sources() for name in getattr(found, "dag_ids", {}).values()}
    if dag_id not in sources:
        raise HTTPException(404, f"No source has a DAG {dag_id!r}")
    # Built from checked names: the source exists, and run_key leaves no separator in.
    path = Storage.from_environment().root / "reports" / sources[dag_id] / run_key(dag_id, run_id) / "validation.html"
    if not path.is_file():
        raise HTTPException(404, f"Run {run_id!r} of {dag_id!r} has no validation report (yet)")
    return HTMLResponse(path.read_text(encoding="utf-8"), headers=HEADERS)


class ValidationReports(AirflowPlugin):
    """Registers the page and the button on the validate task."""

    name = "validation_reports"
    fastapi_apps = [{"app": app, "url_prefix": URL_PREFIX, "name": "Validation reports"}]  # noqa: RUF012 - Airflow's API
    operator_extra_links = [ValidationReportLink()]  # noqa: RUF012 - Airflow's API
