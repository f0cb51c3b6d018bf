"""The report page: only for users who may see the DAG, and only files of known sources."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import HTTPException

from include.etl.config import INCLUDE
from include.etl.report_link import URL_PREFIX


@pytest.fixture
def plugin() -> ModuleType:
    """The plugin as Airflow loads it: the bare file."""
    path = INCLUDE.parent / "plugins" / "validation_reports.py"
    spec = importlib.util.spec_from_file_location("validation_reports", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nobody_sees_a_report_without_logging_in(plugin: ModuleType) -> None:
    async def ask() -> int:
        transport = httpx.ASGITransport(app=plugin.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
            return (await client.get("/polyclinic_visits/some-run")).status_code

    assert asyncio.run(ask()) == 401


def test_unknown_dag_and_missing_report_are_404(
    plugin: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_DATA_URI", str(tmp_path))
    for dag_id, run_id in [("nothing", "run"), ("polyclinic_visits", "run"), ("polyclinic_visits", "../../x")]:
        with pytest.raises(HTTPException) as refused:
            plugin.report(dag_id, run_id)
        assert refused.value.status_code == 404


def test_report_is_served_without_anything_active(
    plugin: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.etl.storage import Storage, run_key

    monkeypatch.setenv("ETL_DATA_URI", str(tmp_path))
    folder = Storage(tmp_path).folder("reports", "polyclinic_visits", run_key("polyclinic_visits_full", "manual__1"))
    (folder / "validation.html").write_text("<h1>passed</h1>")
    answer = plugin.report("polyclinic_visits_full", "manual__1")
    assert answer.body == b"<h1>passed</h1>"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_plugin_registers_page_and_button(plugin: ModuleType) -> None:
    registered: Any = plugin.ValidationReports
    assert [app["url_prefix"] for app in registered.fastapi_apps] == [URL_PREFIX]
    assert [link.name for link in registered.operator_extra_links] == ["Validation report"]
