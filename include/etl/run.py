"""The same phases without a scheduler: for the command line and for notebooks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from include.etl.airflow_home import choose_home
from include.etl.config import Source
from include.etl.errors import StorageError
from include.etl.handover import Mode, Plan
from include.etl.phases.extract import extract, windowed
from include.etl.phases.load import load
from include.etl.phases.plan import decide, look, plan
from include.etl.phases.request import Parameters, Trigger
from include.etl.phases.transform import transform
from include.etl.phases.validate import check
from include.etl.publication import files
from include.etl.records import audit, checkpoint, manifest
from include.etl.records.overrides import override
from include.etl.records.run import Run
from include.etl.sources import load_source
from include.etl.storage import Storage

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Progress = Callable[[str, int], None]
"""Told the phase that is under way and the rows that have just been done."""


@dataclass(frozen=True)
class Result:
    """A publication: its manifest, and its rows with their exact types."""

    storage: Storage
    plan: Plan
    published: manifest.Manifest | None
    """None where nothing could be read safely yet: the checkpoint stays, and `plan.bound` says what holds it back."""

    @property
    def publication(self) -> manifest.Manifest:
        """What was published; a ValueError where nothing was."""
        if self.published is None:
            raise ValueError(f"nothing was published: the window's end is {self.plan.bound.label}")
        return self.published

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands in the published folder; empty where nothing was published."""
        return self.published.model_dump(mode="json") if self.published else {}

    @property
    def paths(self) -> list[Path]:
        """The published files."""
        if self.published is None:
            return []
        folder = manifest.published_folder(self.storage, self.publication.source)
        return [folder / file.path for file in self.publication.files]

    def to_arrow(self) -> pa.Table:
        """All published rows, read from the first format."""
        import pyarrow as pa

        folder = manifest.published_folder(self.storage, self.publication.source)
        schema = files.schema_of(self.publication)
        first = self.publication.files[0].format
        listed = [file for file in self.publication.files if file.format == first]
        return pa.concat_tables(
            [schema.empty_table(), *(files.read(folder, self.publication, file).read_all() for file in listed)]
        )

    def to_pandas(self) -> pd.DataFrame:
        """The same as a pandas frame with Arrow-backed columns, so that no value changes."""
        import pandas as pd

        frame: pd.DataFrame = self.to_arrow().to_pandas(types_mapper=pd.ArrowDtype)
        return frame


class CommandLineVariables:
    """Airflow Variables outside a task: read through Airflow's secrets backends, written with its command line."""

    def get(self, key: str) -> str | None:
        """The value, or None where there is none."""
        from airflow.sdk import Variable

        value: str | None = Variable.get(key, default=None)
        return value

    def set(self, key: str, value: str, description: str) -> None:
        """Store the value in the metadata database."""
        _airflow("set", key, "--description", description, key, value)

    def delete(self, key: str) -> None:
        """Remove the value from the metadata database."""
        _airflow("delete", key, key)

    def overridden_by(self, key: str) -> str:
        """What answers in place of what is stored, by its name; empty where nothing does."""
        return override(key)


def _airflow(command: str, key: str, *arguments: str) -> None:
    airflow = shutil.which("airflow", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    words = [airflow or "airflow", "variables", command, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - no shell, own words
    if done.returncode != 0:
        raise StorageError(f"Airflow Variable {key!r}: airflow variables {command} exited {done.returncode}")


def run_source(
    name: str,
    *,
    mode: str | None = None,
    start: str | None = None,
    end: str | None = None,
    last_n_days: int | None = None,
    reason: str = "",
    release: str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Extract, validate, transform and publish one source; the parameters mean what they mean in Airflow's form.

    Raises:
        ExtractionError: one of its groups in `errors.py`; the message says what to do.
    """
    run, trigger = prepare(name)
    parameters = Parameters(mode, start, end, last_n_days, reason, release)
    return through_phases(run, parameters, trigger, CommandLineVariables(), progress)


def through_phases(
    run: Run,
    parameters: Parameters,
    trigger: Trigger,
    variables: checkpoint.Variables,
    progress: Progress | None = None,
) -> Result:
    """A run from plan to load in this process."""
    tell = progress or _ignore
    tell("plan", 0)
    planned = plan(run, parameters, trigger, variables)
    if not planned.slices:
        tell("done", 0)
        return Result(run.storage, planned, None)
    tell("extract", 0)
    extracted = [extract(run, planned, part, lambda rows: tell("extract", rows)) for part in planned.slices]
    tell("validate", 0)
    validated = check(run, planned, extracted)
    tell("transform", 0)
    transformed = transform(run, planned, extracted)
    tell("load", 0)
    loaded = load(run, planned, extracted, validated, transformed, variables)
    tell("done", loaded.rows)
    return Result(run.storage, planned, manifest.read(run.storage.absolute(loaded.manifest)))


def preview(name: str, parameters: Parameters) -> tuple[Plan, str]:
    """The plan of such a run and the SQL it would send; reads the checkpoint and the column types, but no rows."""
    from include.etl.engines import open_source

    run, trigger = prepare(name)
    planned = decide(run, parameters, trigger, CommandLineVariables(), lambda: look(run.source))
    engine = open_source(run.source, f"moh-etl {name} dry run")
    with engine.session() as session:
        query = windowed(run.source, engine, session, planned.window)
    bound = "".join(f"\n-- :{key} = {value!r}" for key, value in query.params.items())
    return planned, f"{query.sql}{bound}"


def prepare(name: str) -> tuple[Run, Trigger]:
    """A new run of the source, started by hand now."""
    # Outside Airflow's own processes connections and Variables are read from the metadata database as the API server
    # does it, after environment variables and secrets backends.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    choose_home()
    source, now = load_source(name), datetime.now(UTC)
    run = Run(source, f"manual_cli__{now.isoformat()}", Storage.from_environment())
    return run, Trigger(now, default_mode=default_mode(source), triggered_by=audit.user())


def default_mode(source: Source) -> Mode:
    """What a run without parameters does: the first schedule entry."""
    return cast(Mode, next(iter(source.dag_ids)))


def _ignore(phase: str, rows: int) -> None:
    """Progress that nobody watches."""
