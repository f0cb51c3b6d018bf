"""The documented examples are what the channels send today."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from include.etl.alerts import CHANNELS, CONDITIONS
from include.etl.alerts.base import Alert, Finding
from include.etl.alerts.message import LONGEST_DETAIL, MOST_DETAILS
from include.etl.alerts.slack import LONGEST, slack_body
from include.etl.alerts.teams import teams_body
from scripts.write_alert_examples import FOLDER, examples, rendered


def test_examples_are_up_to_date() -> None:
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert found == rendered(), "run: python scripts/write_alert_examples.py"


def test_every_channel_has_an_example() -> None:
    assert {name.split(".")[1] for name in rendered()} == {*CHANNELS, "log"}


def test_every_condition_has_an_example_that_says_since_when() -> None:
    findings = [finding for alert in examples().values() for finding in alert.findings]
    assert {name for finding in findings for name in finding.conditions} == set(CONDITIONS)
    assert all(finding.since for finding in findings)


@pytest.mark.parametrize("name", examples())
def test_slack_takes_it(name: str) -> None:
    """Limits of Block Kit: 50 blocks, 150 characters of a header, 3,000 of a section."""
    blocks = json.loads(rendered()[f"{name}.slack.json"])["blocks"]
    assert len(blocks) <= 50
    assert all(len(block["text"]["text"]) <= (150 if block["type"] == "header" else LONGEST) for block in blocks)


def test_the_longest_message_still_says_what_to_do() -> None:
    """Slack: each block within its limit. Teams: 28 KB in all."""
    finding = Finding(("failure",), "critical", "much", ("x" * 2000,) * 50, to_do="Call the ward.")
    alert = Alert("visits", datetime(2026, 11, 24, tzinfo=UTC), (finding, replace(finding, severity="warning")))
    texts = [block["text"]["text"] for block in slack_body(alert)["blocks"]]
    assert max(map(len, texts)) <= LONGEST
    assert len(texts) <= 50
    said = "\n".join(texts)
    assert said.count("What to do: Call the ward.") == 2
    assert said.count("x" * LONGEST_DETAIL) == 2 * MOST_DETAILS
    assert len(json.dumps(teams_body(alert))) < 28_000
