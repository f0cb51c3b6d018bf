"""Compose and the Astro CLI cannot be started by a test; that they know every database of the sources can be seen."""

import base64
import json
import re

import pytest
import yaml

from include.etl.config import Source
from include.etl.sources import load_sources
from scripts.demo import CONNECTIONS
from scripts.local_airflow import ROOT
from scripts.sync_pools import SLOTS

SOURCES = [source for source in load_sources(ROOT / "include" / "sources") if isinstance(source, Source)]


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yaml").read_text())


@pytest.fixture(scope="module")
def astro() -> dict:
    return yaml.safe_load((ROOT / "airflow_settings.yaml").read_text())["airflow"]


def test_there_are_sources() -> None:
    assert len(SOURCES) >= 4


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.source)
def test_every_source_has_its_connection_and_pool(source, compose, astro) -> None:
    for service in ("api-server", "scheduler", "dag-processor"):
        connection = json.loads(compose["services"][service]["environment"][f"AIRFLOW_CONN_{source.conn_id.upper()}"])
        assert connection == {"conn_type": "sqlite", "host": f"/opt/airflow/demo/data/{CONNECTIONS[source.conn_id]}"}
    (entry,) = [entry for entry in astro["connections"] if entry["conn_id"] == source.conn_id]
    assert entry["conn_host"].endswith(f"/demo/data/{CONNECTIONS[source.conn_id]}")
    (pool,) = [pool for pool in astro["pools"] if pool["pool_name"] == source.pool_name]
    assert pool["pool_slot"] == SLOTS
    assert "scripts/sync_pools.py" in compose["services"]["init"]["command"][0]


def test_containers_wait_for_the_metadata_database(compose) -> None:
    for name in ("api-server", "scheduler", "dag-processor"):
        waits = compose["services"][name]["depends_on"]
        assert waits["postgres"] == {"condition": "service_healthy"}
        assert waits["init"] == {"condition": "service_completed_successfully"}
        assert "healthcheck" in compose["services"][name]


def test_ports_are_open_to_this_machine_alone(compose) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_example_environment_and_compose_name_the_same_values() -> None:
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)}", (ROOT / "docker-compose.yaml").read_text()))
    given = dict(re.findall(r"(?m)^(\w+)=(.*)$", (ROOT / ".env.example").read_text()))
    assert used == given
    assert len(base64.urlsafe_b64decode(given["FERNET_KEY"])) == 32
    assert all("local-demo-only" in given[name] for name in ("POSTGRES_PASSWORD", "API_SECRET_KEY", "JWT_SECRET"))
    assert b"local-demo-only" in base64.urlsafe_b64decode(given["FERNET_KEY"])


def test_the_image_is_of_the_locked_airflow() -> None:
    image = re.search(r"FROM apache/airflow:(\S+)-python(\S+)", (ROOT / "Dockerfile").read_text())
    assert image
    assert f"apache-airflow=={image[1]}\n" in (ROOT / "requirements.txt").read_text()
    assert image[2] in ("3.11", "3.12", "3.13")
