"""Fixtures for all tests: an Airflow home of their own, and throwaway database servers."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# A busy machine is no failure, and examples that failed belong into a test, not into a folder.
hypothesis.settings.register_profile("tests", deadline=None, database=None)
hypothesis.settings.load_profile("tests")

# A run flushes its files some two hundred times, which takes milliseconds each on a disk and nothing in memory. What
# tests do with a disk of their own (power cuts, one that is full) they do there as well.
MEMORY, ENOUGH = Path("/dev/shm"), 8 << 30
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH:
    os.environ["TMPDIR"], tempfile.tempdir = str(MEMORY), None

# Airflow reads these when it is first imported, which is before any fixture runs.
_HOME = tempfile.TemporaryDirectory(prefix="test-airflow-")
os.environ["AIRFLOW_HOME"] = _HOME.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

from tests import servers  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start Airflow come first, as they take long."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)


class ByFile(LoadScopeScheduling):
    """A worker takes a whole file, so that its servers are started once; one takes all tests of the running Airflow."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "tests/e2e" if file.startswith("tests/e2e/") else file


@pytest.hookimpl(optionalhook=True)  # the tests run without pytest-xdist, too
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(scope="module")
def far_away() -> Iterator[None]:
    """A machine whose own zone is neither UTC nor a source's: nothing may depend on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")  # 14 hours ahead
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.DatabaseServer]:
    """A PostgreSQL server for the whole test session; tests make and drop tables of their own."""
    with ExitStack() as stack:
        yield started(stack, servers.postgres, "PostgreSQL")


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[servers.DatabaseServer]:
    """A MariaDB server for the whole test session; tests make and drop tables of their own."""
    with ExitStack() as stack:
        yield started(stack, servers.mariadb, "MariaDB")


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[servers.DatabaseServer]:
    """A MySQL 9 server for the whole test session; where it must be had, on Debian, its lack can be a failure."""
    with ExitStack() as stack:
        yield started(stack, servers.mysql, "MySQL", obtainable=servers.on_debian())


def started(
    stack: ExitStack,
    start: Callable[[], AbstractContextManager[servers.DatabaseServer]],
    name: str,
    *,
    obtainable: bool = True,
) -> servers.DatabaseServer:
    """The server, running until the stack is closed; a machine without it skips, and says so.

    With REQUIRE_DATABASES=1 it fails instead, where the server can be had at all.
    """
    try:
        return stack.enter_context(start())
    except servers.ServerMissing as missing:
        if os.environ.get("REQUIRE_DATABASES") == "1" and obtainable:
            pytest.fail(f"{name} is required: {missing}", pytrace=False)
        pytest.skip(f"{name} IS NOT TESTED: {missing}")
