"""What the audit and the log files say of runs that end well or not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from include.etl.errors import ConfigurationError, ExtractionError
from include.etl.records import audit_check
from include.etl.storage import Storage
from tests.integration.conftest import VISITS, Project


def told(project: Project) -> list[dict[str, Any]]:
    storage = Storage(project.folder / "data")
    assert audit_check.check(storage).problems == []
    return list(audit_check.entries(storage))


def log_lines(project: Project, audience: str) -> list[dict[str, Any]]:
    (path,) = (project.folder / "data" / "logs").glob(f"{audience}-*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_is_told_from_start_to_publication(project: Project) -> None:
    project.execute("INSERT INTO visits VALUES (1, '2024-01-01', 1.5, 'x', '2024-01-01 08:00:00')")
    done = project.run(reason="for the auditor")
    started, published = told(project)
    assert (started["action"], published["action"]) == ("extraction started", "extraction published")
    assert started["kind"] == "by hand"
    assert {line["who"] for line in (started, published)} == {done.publication.triggered_by}
    assert done.publication.triggered_by
    assert {line["reason"] for line in (started, published)} == {"for the auditor"}
    assert published["files"] == {file.path: file.sha256 for file in done.publication.files}
    assert (published["rows"]["published"], published["query_hash"]) == (1, done.publication.query_hash)
    assert started["window"] == published["window"] == done.manifest["window"]
    (kept,) = (project.folder / "data" / "runs" / "visits").glob(f"*/{audit_check.KEPT}")
    assert json.loads(kept.read_text()) == {key: published[key] for key in ("number", "hash")}
    phases = [line["phase"] for line in log_lines(project, "extraction") if "result" in line]
    assert phases == ["plan", "extract-0000", "validate", "transform", "load"]
    assert not list((project.folder / "data" / "logs").glob("errors-*"))


def test_a_failed_run_is_told_with_its_error_and_who_asked(project: Project) -> None:
    project.execute("DROP TABLE visits")
    with pytest.raises(ExtractionError):
        project.run(reason="for the auditor")
    last = told(project)[-1]
    assert (last["action"], last["error"], last["reason"]) == (
        "extraction failed",
        "ConfigurationError",
        "for the auditor",
    )
    (error,) = log_lines(project, "errors")
    assert (error["source"], error["phase"]) == ("visits", last["phase"])
    assert "visits" in error["message"]


def test_a_run_that_is_refused_is_told_too(project: Project) -> None:
    project.configure(VISITS + "require_reason: true\n")
    with pytest.raises(ConfigurationError, match="require_reason"):
        project.run()
    (line,) = told(project)
    assert (line["action"], line["phase"], line["error"]) == ("extraction failed", "plan", "ConfigurationError")
    assert line["who"]
