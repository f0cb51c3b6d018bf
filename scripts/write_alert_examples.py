"""Write docs/alerts: an example of each message, as each channel shows it.

python scripts/write_alert_examples.py
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from include.etl.alerts.base import Alert, Finding
from include.etl.alerts.conditions import Ended, after_run, recovered
from include.etl.alerts.memory import Memory
from include.etl.alerts.message import html, text, title
from include.etl.alerts.slack import slack_body
from include.etl.alerts.teams import teams_body
from include.etl.config import INCLUDE

FOLDER = INCLUDE.parent / "docs" / "alerts"
RUN = "scheduled__2026-11-23T18:00:00+00:00"
AT, BEFORE = datetime(2026, 11, 23, 18, 4, tzinfo=UTC), datetime(2026, 11, 22, 18, 3, tzinfo=UTC)
CAUSE = "source 'polyclinic_visits': the server db.example.org did not answer within 10 s"
LASTING = {
    "degraded guarantee": "transactions in flight cannot be seen, so a row that is committed more than 600 s after "
    "it was stamped can be missed: permission denied; where transactions last longer, set cursor.lag",
    "long-running writer": "session 4711 has been in a transaction since 2026-11-21 09:12, longer than "
    "cursor.longest_writer = 1 day; what is newer than that is not read before it ends",
}
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
        "failure": _alert(
            *_after({"phase": "extract", "error": "TransientError", "error_message": CAUSE}, failed=True)
        ),
        "bad-rows": _alert(
            *_after(
                {
                    "phase": "validate",
                    "error": None,
                    "quarantined": 12,
                    "failed_expectations": [
                        "[critical] expect_column_values_to_be_between on fee: 12 values (0.012 %) are not as expected",
                        "[warning] expect_column_values_to_be_in_set on kind: 3 values (0.003 %) are not as expected",
                    ],
                }
            ),
        ),
        "lasting": _alert(
            *_after({"phase": "plan", "error": None, "conditions": LASTING}),
            Finding(
                conditions=("channel_down",),
                severity="warning",
                what="this alert (degraded_guarantee, long_running_writer) could not be sent everywhere",
                details=("mail: no answer within 12 s",),
                since=AT,
                to_do="Check the channel's Airflow connection and its server; see docs/alerts.md.",
            ),
        ),
        "late": replace(
            _alert(
                Finding(
                    conditions=("late_data",),
                    severity="critical",
                    what="nothing was published for the schedule of 2026-11-23 02:00",
                    details=("data reaches up to 2026-11-22 02:00",),
                    since=datetime(2026, 11, 22, 18, tzinfo=UTC),
                    to_do="See on the DAG's page whether it is paused, waits, or has failed; then trigger it. "
                    "This is told once.",
                ),
            ),
            run_id="",
            links={"DAG": "http://localhost:8080/dags/polyclinic_visits"},
        ),
        "maintenance": Alert(
            "maintenance",
            AT,
            (
                Finding(
                    conditions=("findings",),
                    severity="warning",
                    what="things that are not in order: 1",
                    details=("polyclinic_visits: 12 rows were set aside 40 days ago, and are still there",),
                    since=AT,
                    to_do="See docs/maintenance.md.",
                ),
            ),
            dag_id="maintenance",
            run_id=RUN,
            links={"Run": f"http://localhost:8080/dags/maintenance/runs/{RUN.replace(':', '%3A').replace('+', '%2B')}"},
        ),
        "warnings": _alert(
            Finding(
                conditions=("row_count_deviation",),
                severity="warning",
                what="610 rows were read, usually it is about 1,004 (-39%)",
                details=("the last 4 runs of this weekday: 998, 1,010, 987, 1,022",),
                since=BEFORE,
                to_do="Find out whether there was a holiday, a stop or a mass change. The rows have been published.",
            ),
            Finding(
                conditions=("schema_drift",),
                severity="warning",
                what="they are not those published before",
                details=("column 'ward' is new (string)",),
                since=BEFORE,
                to_do="Tell those who read the published files; see docs/schema-changes.md.",
            ),
        ),
        "recovered": _alert(recovered(BEFORE)),
    }


def _after(phase: dict[str, Any], *, failed: bool = False) -> list[Finding]:
    """What is told of a run of this one phase, in its own words."""
    found = after_run(Ended("polyclinic_visits", RUN, failed, AT), {"phases": [phase]}, Memory())
    return [replace(one, since=BEFORE) for one in found]


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
    argparse.ArgumentParser(description=__doc__).parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name, content in rendered().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
        print(FOLDER / name)
