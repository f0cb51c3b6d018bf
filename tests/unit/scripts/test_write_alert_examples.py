"""The documented examples are what the channels send today."""

import json

import pytest

from include.etl.alerts import CHANNELS, CONDITIONS
from include.etl.alerts.slack import LONGEST
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
