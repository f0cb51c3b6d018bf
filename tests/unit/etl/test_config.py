"""Source files: what is accepted, and that what is refused says file, key, value and what is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from include.etl.config import INCLUDE, Source
from include.etl.dag_factory import build_dags
from include.etl.errors import ConfigurationError
from include.etl.sources import BrokenSource, load_source, load_sources

SMALLEST = """
source: visits
description: Visits
conn_id: clinic
table: public.visits
primary_key: [visit_id]
cursor: {column: updated_at, lookback: 1h}
schedule: {incremental: "0 2 * * *", full: "0 0 * * 0"}
output: {formats: [parquet]}
"""


def error_of(folder: Path, text: str, name: str = "visits") -> str:
    (folder / f"{name}.yaml").write_text(text)
    (found,) = load_sources(folder)
    assert isinstance(found, BrokenSource)
    return found.error


def test_smallest_source_gets_two_dags(tmp_path: Path) -> None:
    (tmp_path / "visits.yaml").write_text(SMALLEST)
    source = load_source("visits", tmp_path)
    assert source.dag_ids == {"incremental": "visits", "full": "visits_full"}
    assert source.pool_name == "clinic"


def test_defaults_are_merged_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "_defaults.yaml").write_text("owner: team\noutput: {formats: [csv], partition_by: visit_date}\n")
    (tmp_path / "visits.yaml").write_text(SMALLEST)
    source = load_source("visits", tmp_path)
    assert (source.owner, source.output.formats, source.output.partition_by) == ("team", ["parquet"], "visit_date")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("table: public.visits", "tabel: public.visits"), ["visits.yaml: tabel", "unknown key", "table"]),
        (("lookback: 1h", "lookbak: 1h"), ["cursor.lookbak", "unknown key", "column, type, lookback, timezone"]),
        (("lookback: 1h", "lookback: 1 hour"), ["cursor.lookback", "'1 hour'", "90s, 15m, 1h or 2d"]),
        (('"0 2 * * *"', '"0 25 * * *"'), ["schedule.incremental", "'0 25 * * *'", "cron expression"]),
        (("[parquet]", "[parquett]"), ["output.formats.0", "'parquett'", "parquet, csv, excel"]),
        (("source: visits", "source: other"), ["source", "'other'", "'visits'"]),
        (("conn_id: clinic\n", ""), ["conn_id", "missing"]),
        (("table: public.visits\n", ""), ["query", "table"]),
        (("cursor: {column: updated_at, lookback: 1h}\n", ""), ["schedule.incremental", "cursor"]),
        (("primary_key: [visit_id]\n", ""), ["cursor.lookback", "primary_key"]),
        (("table: public.visits", "query: ../../etc/passwd"), ["query", "'../../etc/passwd'"]),
        (("conn_id: clinic", "conn_id: clinic\ntimezone: Mars/Base"), ["timezone", "'Mars/Base'", "time zone"]),
        (("source: visits", "source: [visits"), ["not valid YAML", "line"]),
    ],
)
def test_wrong_key_or_value_is_named(tmp_path: Path, change: tuple[str, str], parts: list[str]) -> None:
    message = error_of(tmp_path, SMALLEST.replace(*change))
    assert message.startswith("visits.yaml: ")
    for part in parts:
        assert part in message


def test_one_broken_file_hides_no_other_source(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("source: bad\n")
    (tmp_path / "visits.yaml").write_text(SMALLEST)
    bad, good = load_sources(tmp_path)
    assert isinstance(bad, BrokenSource)
    assert isinstance(good, Source)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("visits.yaml", ("schedule:", "start_date: 2024-13-45\nschedule:")),
        ("visits.yaml", ("schedule:", 'memory_limit_mb: !!int "abc"\nschedule:')),
        ("visits.yaml", ("lookback: 1h", "lookback: 9999999999999d")),
        ("visits.yaml", ("schedule:", "tags: [" + "x" * 101 + "]\nschedule:")),
        ("visits.yaml", ("conn_id: clinic", "conn_id: clinic\nconn_id: other")),
        ("visits.yaml", ("[parquet]", "[parquet, parquet]")),
        ("visits.yaml", ("schedule:", "transform: {types: {updated_at: DATE}}\nschedule:")),
        ("visits (1).yaml", ("x", "x")),
        ("visits.yml", ("x", "x")),
    ],
)
def test_whatever_is_wrong_becomes_a_dag_that_fails(tmp_path: Path, name: str, change: tuple[str, str]) -> None:
    (tmp_path / name).write_text(SMALLEST.replace(*change))
    (found,) = load_sources(tmp_path)
    assert isinstance(found, BrokenSource)
    assert name in found.error
    (dag,) = build_dags(found)
    assert dag.task_ids == ["configuration"]


def test_broken_file_does_not_take_a_healthy_dags_id(tmp_path: Path) -> None:
    (tmp_path / "visits.yaml").write_text(SMALLEST)
    (tmp_path / "visits_full.yaml").write_text("source: visits_full\n")
    found = load_sources(tmp_path)
    ids = [dag.dag_id for source in found for dag in build_dags(source)]
    assert sorted(ids) == ["visits", "visits_full", "visits_full_broken"]


def test_an_address_with_a_password_is_not_repeated(tmp_path: Path) -> None:
    message = error_of(tmp_path, SMALLEST.replace("conn_id: clinic", "conn_id: postgres://reader:HUNTER2@host/clinic"))
    assert "conn_id" in message
    assert "HUNTER2" not in message


def test_two_sources_cannot_claim_one_dag_id(tmp_path: Path) -> None:
    (tmp_path / "visits.yaml").write_text(SMALLEST)
    (tmp_path / "visits_full.yaml").write_text(SMALLEST.replace("source: visits", "source: visits_full"))
    errors = [found.error for found in load_sources(tmp_path) if isinstance(found, BrokenSource)]
    assert len(errors) == 2
    assert all("visits_full" in error for error in errors)


def test_unknown_source_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "visits.yaml").write_text(SMALLEST)
    with pytest.raises(ConfigurationError, match="did you mean 'visits'"):
        load_source("visit", tmp_path)


@settings(deadline=None)
@given(content=st.text(max_size=200))
def test_no_file_content_escapes_as_another_error(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    folder = tmp_path_factory.mktemp("sources")
    (folder / "visits.yaml").write_text(content, encoding="utf-8", errors="surrogateescape")
    (found,) = load_sources(folder)
    assert isinstance(found, BrokenSource)


def test_every_shipped_source_loads() -> None:
    shipped = load_sources(INCLUDE / "sources")
    assert shipped
    assert [found.error for found in shipped if isinstance(found, BrokenSource)] == []


def test_every_field_is_described() -> None:
    """The descriptions are the editor's help and the format's documentation."""
    schema = Source.model_json_schema()
    for name, model in {"Source": schema, **schema["$defs"]}.items():
        for key, field in model.get("properties", {}).items():
            assert field.get("description"), f"{name}.{key}"
    assert issubclass(Source, BaseModel)
    assert json.dumps(schema)


def test_split_by_the_cursor_needs_a_next_run_and_a_key(tmp_path: Path) -> None:
    """A row that is updated between two slices moves to another one."""
    split = SMALLEST + "split: {column: updated_at}\n"
    (tmp_path / "visits.yaml").write_text(split)
    assert load_source("visits", tmp_path).split
    for change in (
        ('incremental: "0 2 * * *", ', ""),
        ("primary_key: [visit_id]\ncursor: {column: updated_at, lookback: 1h}", "cursor: {column: updated_at}"),
    ):
        assert "`split.column` is the cursor" in error_of(tmp_path, split.replace(*change))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("load: merge", "`load: merge` needs `primary_key`"),
        ("deletes: mark", "`deletes: mark` needs `primary_key`"),
        ("max_deletes: 110%", "allowed: a percentage from 0% to 100%"),
        ("max_deletes: 10", "allowed: a percentage"),
        ("schema_changes: ignore", "'evolve', 'warn' or 'fail'"),
    ],
)
def test_keys_about_updates_deletes_and_columns(tmp_path: Path, line: str, complaint: str) -> None:
    keyless = SMALLEST.replace("primary_key: [visit_id]\n", "").replace(", lookback: 1h", "")
    assert complaint in error_of(tmp_path, f"{keyless}{line}\n")


def test_percentages_are_shares(tmp_path: Path) -> None:
    (tmp_path / "visits.yaml").write_text(SMALLEST + "deletes: mark\nload: merge\nmax_deletes: 0.5%\n")
    assert load_source("visits", tmp_path).max_deletes == 0.005


ALERTS = """
alerts:
  channels:
    mail: {type: email, conn_id: smtp_alerts, to: [night@example.org]}
    chat: {type: slack, conn_id: slack_alerts}
  route: {warning_validation: [log], failure: [chat], others: [mail]}
"""


def test_alerts_go_where_they_are_routed(tmp_path: Path) -> None:
    (tmp_path / "visits.yaml").write_text(SMALLEST + ALERTS)
    alerts = load_source("visits", tmp_path).alerts
    assert alerts.names("warning_validation") == []
    assert (alerts.names("failure"), alerts.names("late_data")) == (["chat"], ["mail"])
    (tmp_path / "visits.yaml").write_text(SMALLEST + ALERTS.replace(", others: [mail]", ""))
    assert load_source("visits", tmp_path).alerts.names("late_data") == ["mail", "chat"]


def test_alerts_go_to_the_log_alone_by_default(tmp_path: Path) -> None:
    (tmp_path / "visits.yaml").write_text(SMALLEST)
    assert load_source("visits", tmp_path).alerts.names("failure") == []


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("type: slack", "type: pager"), ["alerts.channels.chat.type", "'pager'", "email, slack, teams"]),
        (("warning_validation:", "warnings:"), ["alerts.route.warnings", "'warnings'", "failure, recovered"]),
        (("failure: [chat]", "failure: [chatt]"), ["alerts", "route.failure", "'chatt'", "mail, chat, log"]),
        (
            ("conn_id: slack_alerts", "url: x"),
            ["alerts.channels.chat.url", "unknown key", "type, conn_id, to, channel"],
        ),
        ((", to: [night@example.org]", ""), ["alerts.channels.mail", "`to`", "type: email"]),
        (("night@example.org", "night"), ["alerts.channels.mail.to.0", "'night'", "an address such as"]),
        (("chat: {type: slack", "chat: {type: teams, channel: x"), ["alerts.channels.chat", "`channel`"]),
        (("chat: {type: slack", "log: {type: slack"), ["alerts", "channels.log", "always there"]),
        (("  route:", "  late_after: soon\n  route:"), ["alerts.late_after", "'soon'", "90s, 15m"]),
        (("  route:", "  row_count_deviation: {percent: -1}\n  route:"), ["row_count_deviation.percent", "-1"]),
    ],
)
def test_alerts_that_make_no_sense(change: tuple[str, str], parts: list[str], tmp_path: Path) -> None:
    changed = ALERTS.replace(*change)
    assert changed != ALERTS
    message = error_of(tmp_path, SMALLEST + changed)
    assert all(part in message for part in ["visits.yaml", *parts]), message


def test_a_webhook_in_the_yaml_is_refused_and_not_repeated(tmp_path: Path) -> None:
    changed = ALERTS.replace("conn_id: slack_alerts", "conn_id: https://hooks.slack.com/services/T0/B0/geheim")
    message = error_of(tmp_path, SMALLEST + changed)
    assert "the name of an Airflow connection" in message
    assert "geheim" not in message
