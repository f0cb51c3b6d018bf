"""The HTML report of a validation: one file, nothing loaded from elsewhere, readable on a phone and on paper."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from include.etl.errors import StorageError
from include.etl.storage import publish, seal
from include.etl.validation import Verdict
from include.etl.validation.outcomes import Outcome

ORDER = {("failed", "critical"): 0, ("failed", "warning"): 1, ("failed", "info"): 2}
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
TEMPLATES.filters["as_json"] = lambda value: json.dumps(value, ensure_ascii=False, default=str)


def write_report(
    path: Path, source: str, suite: str, verdict: Verdict, outcomes: Sequence[Outcome], context: Mapping[str, str]
) -> None:
    """Write the report at once or not at all; failures come first, critical ones before the others."""
    page = TEMPLATES.get_template("report.html.j2").render(
        source=source,
        suite=suite,
        verdict=verdict,
        context=context,
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        outcomes=sorted(outcomes, key=lambda found: (ORDER.get((found.result, found.severity), 3), found.number)),
        passed=sum(found.result == "passed" for found in outcomes),
        not_checked=sum(found.result == "not checked" for found in outcomes),
    )
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        staged.write_text(page, encoding="utf-8")
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise StorageError(f"file {path}: {error.strerror}") from error
    seal(staged)
    publish(staged, path)
