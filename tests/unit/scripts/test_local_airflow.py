import base64
import configparser
import socket
import stat
from pathlib import Path

import pytest

from scripts.local_airflow import LocalAirflow, LocalAirflowError, free_port, write_settings


def settings(home: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(home / "airflow.cfg")
    return parser


def test_secrets_are_random_kept_and_private(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for home in (one, other):
        home.mkdir()
        write_settings(home, tmp_path, 8080, schedules=True)
    first = settings(one)
    (one / "airflow.cfg").chmod(0o644)
    write_settings(one, tmp_path, 8081, schedules=False)
    again = settings(one)
    for section, option in (("core", "fernet_key"), ("api", "secret_key"), ("api_auth", "jwt_secret")):
        assert again[section][option] == first[section][option]
        assert settings(other)[section][option] != first[section][option]
    assert len(base64.urlsafe_b64decode(again["core"]["fernet_key"])) == 32
    assert again["core"]["execution_api_server_url"] == "http://127.0.0.1:8081/execution/"
    assert stat.S_IMODE((one / "airflow.cfg").stat().st_mode) == 0o600


def test_it_listens_on_this_machine_only(tmp_path: Path) -> None:
    write_settings(tmp_path, tmp_path, 8080, schedules=True)
    assert settings(tmp_path)["api"]["host"] == "127.0.0.1"


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < free_port(port) < port + 100
    assert free_port() > 0


def test_settings_of_another_airflow_are_not_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production/airflow")
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "sqlite:///other.db")
    airflow = LocalAirflow(tmp_path, environment={"AIRFLOW_CONN_MINE": "sqlite:///mine.db"})
    names = {name for name in airflow.environment if name.startswith("AIRFLOW")}
    assert names == {"AIRFLOW_HOME", "AIRFLOW_CONN_MINE"}


def test_a_second_airflow_in_the_same_home_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.local_airflow.LOCK_TIMEOUT_S", 0.3)
    first, second = LocalAirflow(tmp_path), LocalAirflow(tmp_path)
    with first.locked(), pytest.raises(LocalAirflowError, match="another Airflow works in"), second.locked():
        pass
    with second.locked():
        pass


def test_a_failing_component_is_explained_by_its_log(tmp_path: Path) -> None:
    airflow = LocalAirflow(tmp_path, environment={"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "nonsense://"})
    with pytest.raises(LocalAirflowError, match=r"could not be made(.|\n)*migrate\.log(.|\n)*nonsense"), airflow:
        pass
