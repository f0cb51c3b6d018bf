"""Write docs/alerts: an example of each message, as each channel shows it.

python scripts/write_alert_examples.py
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from include.etl.alerts.base import Alert, Finding
from include.etl.alerts.conditions import recovered
from include.etl.alerts.message import html, text, title
from include.etl.alerts.slack import slack_body
from include.etl.alerts.teams import teams_body
from include.etl.config import INCLUDE

FOLDER = INCLUDE.parent / "docs" / "alerts"
RUN = "scheduled__2026-11-23T18:00:00+00:00"
AT, BEFORE = datetime(2026, 11, 23, 18, 4, tzinfo=UTC), datetime(2026, 11, 22, 18, 3, tzinfo=UTC)
LINKS = {
    "Run": "http://localhost:8080/dags/polyclinic_visits/runs/scheduled__2026-11-23T18%3A00%3A00%2B00%3A00",
    "Validation report": "http://localhost:8080/validation-reports/polyclinic_visits/"
    "scheduled__2026-11-23T18%3A00%3A00%2B00%3A00",
}


def examples() -> dict[str, Alert]:
    """Name of the example -> the alert."""
    return {
        "critical-validation": _alert(
            Finding(
                conditions=("critical_validation", "quality_failure", "failure"),
                severity="critical",
                what="critical expectations failed; nothing was published",
                details=(
                    "[critical] expect_column_values_to_not_be_null on visit_id: 3 values (0.3 %) are not as expected",
                    "[warning] expect_column_values_to_be_in_set on kind: 12 values (0.012 %) are not as expected",
                    "2 runs in a row have failed",
                ),
                since=BEFORE,
                to_do="Open the validation report, have the data corrected, then clear the run.",
            ),
        ),
        "warnings": _alert(
            Finding(
                conditions=("row_count_deviation",),
                severity="warning",
                what="610 rows were read, usually it is about 1,004 (-39%)",
                details=("the last 4 runs of this weekday: 998, 1,010, 987, 1,022",),
                to_do="Find out whether there was a holiday, a stop or a mass change. The rows have been published.",
            ),
            Finding(
                conditions=("schema_drift",),
                severity="warning",
                what="they are not those published before",
                details=("column 'ward' is new (string)",),
                to_do="Tell those who read the published files; see docs/schema-changes.md.",
            ),
        ),
        "recovered": _alert(recovered(BEFORE)),
    }


def _alert(*findings: Finding) -> Alert:
    return Alert(
        source="polyclinic_visits",
        at=AT,
        findings=findings,
        zone=ZoneInfo("Asia/Singapore"),
        description="Outpatient visits of all polyclinics",
        contact="data-platform@example.org",
        dag_id="polyclinic_visits",
        run_id=RUN,
        links=LINKS if findings[0].severity != "good" else {"Run": LINKS["Run"]},
    )


def rendered() -> dict[str, str]:
    """Name of a file -> what it holds."""
    found = {}
    for name, alert in examples().items():
        found[f"{name}.log.txt"] = f"{title(alert)}\n{text(alert)}\n"
        found[f"{name}.email.html"] = f"{html(alert)}\n"
        found[f"{name}.slack.json"] = json.dumps(slack_body(alert), indent=2, ensure_ascii=False) + "\n"
        found[f"{name}.teams.json"] = json.dumps(teams_body(alert), indent=2, ensure_ascii=False) + "\n"
    return found


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in rendered().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
        print(FOLDER / name)
