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
from tests import servers

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


OFFICIAL = ("postgres:", "mysql:", "mariadb:", "mcr.microsoft.com/mssql/server:", "container-registry.oracle.com/")
DATABASES = {"POSTGRES": "postgres", "MYSQL": "mysql", "MARIADB": "mysql", "MSSQL": "mssql", "ORACLE": "oracle"}


def test_databases_of_the_contract_suite_start_only_when_it_does(compose) -> None:
    tested = {name: service for name, service in compose["services"].items() if service.get("profiles") == ["test"]}
    assert set(tested) == {"tests", *(f"test-{name.lower()}" for name in DATABASES)}
    assert set(tested.pop("tests")["depends_on"]) == set(tested)
    assert all(service["image"].startswith(OFFICIAL) for service in tested.values())
    assert not any("ports" in service or "volumes" in service for service in tested.values())
    waits = [service.get("depends_on") for name, service in compose["services"].items() if name != "tests"]
    assert "test-" not in str(waits)


@pytest.mark.parametrize("name", DATABASES)
def test_the_suite_is_given_every_database_as_it_was_set_up(name: str, compose) -> None:
    services = compose["services"]
    runner, database = services["tests"], services[f"test-{name.lower()}"]
    given = servers._from_uri(DATABASES[name], runner["environment"][f"TEST_{name}_URI"], 0)
    assert given.host == f"test-{name.lower()}"
    assert given.password in database["environment"].values()
    assert runner["depends_on"][given.host] == {"condition": "service_healthy"}
    assert "healthcheck" in database or name == "ORACLE"  # whose image has one of its own
    assert f"TEST_{name}_URI" in runner["command"][0] or name != "MARIADB"
    asked = json.loads(given.airflow_connection)
    assert asked["extra"] == ({"trust_server_certificate": "yes"} if name == "MSSQL" else {})
    made = {"POSTGRES": "POSTGRES_DB", "MYSQL": "MYSQL_DATABASE", "MARIADB": "MARIADB_DATABASE"}.get(name)
    assert made is None or database["environment"][made] == given.database


def test_sql_server_accepts_the_password_and_the_suite_can_be_found(compose) -> None:
    password = compose["services"]["test-mssql"]["environment"]["MSSQL_SA_PASSWORD"]
    kinds = [any(test(character) for character in password) for test in (str.isupper, str.islower, str.isdigit)]
    assert len(password) >= 8
    assert all(kinds)
    runner = compose["services"]["tests"]
    mounted = {volume.split(":")[0] for volume in runner["volumes"]}
    ignored = set((ROOT / ".dockerignore").read_text().split())
    assert {"./tests", "./docs"} == mounted == {f"./{name}" for name in ("tests", "docs") if name in ignored}
    for folder in re.findall(r"tests/\S+", runner["command"][0]):
        assert (ROOT / folder).is_dir()
