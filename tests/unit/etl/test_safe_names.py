"""No name, partition value or YAML text leads out of the data folder, or breaks the loader."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.etl.config import Source
from include.etl.errors import StorageError
from include.etl.handover import Window
from include.etl.publication.files import _relative
from include.etl.sources import BrokenSource, load_sources
from include.etl.storage import Storage, plain_name, run_key

EVIL = [
    "..",
    ".",
    "",
    "/",
    "../x",
    "a/../../x",
    "\\..\\x",
    "a\x00b",
    "~",
    "C:\\x",
    "a=b/../..",
    "％2e％2e／",
    "\n",
    "con",
]
NAMES = st.one_of(st.text(), st.sampled_from(EVIL), st.lists(st.sampled_from(EVIL)).map("/".join))
SETTINGS = {
    "source": "visits",
    "description": "Visits",
    "conn_id": "clinic",
    "table": "visits",
    "cursor": {"column": "updated_at"},
    "schedule": {"incremental": "@daily"},
}
YAML = st.one_of(
    st.text(),
    st.binary().map(lambda found: found.decode("latin-1")),
    st.lists(st.sampled_from(
        ["source: ", "visits", "../x", "\n", "  ", "- ", "{", "}", "[", "]", "&a ", "*a",
         "!!python/object/apply:os.system ",
         "<<: ", "'", '"', "|", "? ", "conn_id: c\n", "table: t\n", "1e999", "0x", "2024-13-45", "\t", "---", "..."]
    )).map("".join),
)  # fmt: skip


@given(NAMES)
def test_a_plain_name_stays_in_its_folder(name: str) -> None:
    folder = Path("/data/raw")
    try:
        path = folder / plain_name(name)
    except StorageError:
        return
    assert path.parent == folder
    assert path.name == name


@given(NAMES, NAMES)
def test_any_run_id_is_a_plain_name_of_its_own(dag_id: str, run_id: str) -> None:
    key = run_key(dag_id, run_id)
    assert plain_name(key) == key
    assert len(key) <= 89
    assert run_key(dag_id, run_id + "x") != key


@given(st.text(min_size=1, max_size=128), st.dates())
def test_any_partition_column_stays_below_the_published_folder(column: str, day: date) -> None:
    source = Source.model_validate(SETTINGS | {"output": {"formats": ["parquet"], "partition_by": column}})
    window = Window(mode="full", end="2024-01-01T00:00:00Z")
    try:
        path = Path(_relative(source, window, day.isoformat(), "parquet"))
    except UnicodeEncodeError:
        pytest.fail("a column name that cannot be written")
    assert len(path.parts) == 2
    assert not {"..", "/"} & set(path.parts)


@given(NAMES)
def test_a_path_from_another_task_stays_in_the_data_folder(relative: str) -> None:
    storage = Storage(Path("/data"))
    try:
        path = storage.absolute(relative)
    except (StorageError, ValueError):
        return
    assert path.is_relative_to("/data")


@given(YAML)
def test_any_yaml_is_a_source_or_says_why_not(text: str) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "visits.yaml").write_text(text, encoding="utf-8", errors="replace")
        (found,) = load_sources(Path(folder))
    assert isinstance(found, BrokenSource) or found.source == "visits"
