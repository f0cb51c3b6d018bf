"""Source -> Airflow DAG: wiring only. Every task calls one phase and hands small JSON to the next.

Nothing here reads a database, a Variable or a connection, and nothing heavy is imported, until a task runs.
"""

from __future__ import annotations

from datetime import UTC, datetime, time
from functools import partial
from typing import TYPE_CHECKING, Any

# Public names of airflow.sdk that its type stub leaves out.
from airflow.sdk import (  # type: ignore[attr-defined]
    DAG,
    CronDataIntervalTimetable,
    DeadlineAlert,
    DeadlineReference,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
    SyncCallback,
    get_current_context,
    task,
)

from include.etl.alerts.callbacks import deadline_missed, run_ended
from include.etl.config import Source
from include.etl.dag_docs import dag_doc
from include.etl.errors import ConfigurationError, ExtractionError, TransientError
from include.etl.handover import Extracted, Mode, Plan, Slice, Transformed, Validated
from include.etl.lineage import LoadOperator
from include.etl.report_link import ValidateOperator
from include.etl.sources import BrokenSource

if TYPE_CHECKING:
    from include.etl.phases.request import Parameters, Trigger
    from include.etl.records.run import Run

PARALLEL_SLICES = 4
AS_SCHEDULED = "as scheduled"
_MOMENT = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?(Z|[+-]\d{2}:?\d{2})?$"


def build_dags(source: Source | BrokenSource) -> list[DAG]:
    """One DAG per schedule entry; for a broken source one whose only task fails with the reason."""
    if isinstance(source, BrokenSource):
        return [_broken(source)]
    modes: list[Mode] = ["incremental", "full"]
    try:
        return [_build(source, mode) for mode in modes if mode in source.dag_ids]
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not hide the other sources
        return [_broken(BrokenSource(source.source, f"{source.source}.yaml: {type(error).__name__}: {error}"))]


def _build(source: Source, mode: Mode) -> DAG:
    with DAG(
        dag_id=source.dag_ids[mode],
        description=source.description,
        doc_md=dag_doc(source, mode),
        schedule=CronDataIntervalTimetable(getattr(source.schedule, mode), timezone=source.timezone),
        start_date=datetime.combine(source.start_date, time(), tzinfo=source.zone),
        catchup=False,
        max_active_runs=1,
        tags=[*source.tags, "extraction", mode],
        on_failure_callback=partial(run_ended, source, failed=True),
        on_success_callback=partial(run_ended, source, failed=False),
        deadline=DeadlineAlert(
            DeadlineReference.DAGRUN_QUEUED_AT, source.alerts.late_after, SyncCallback(deadline_missed)
        ),
        default_args={
            "owner": source.owner,
            "retries": source.retries.attempts,
            "retry_delay": source.retries.delay,
            "retry_policy": retry_policy(),
        },
    ) as dag:
        _wire(source, mode)
    # Given last: each task would take a copy, and parsing and serialising many sources would take seven times as long.
    dag.params.update(_params(source))
    return dag


def retry_policy() -> ExceptionRetryPolicy:
    """Retries are for errors that can pass: a wrong password or wrong data only costs the hospital's database time."""
    return ExceptionRetryPolicy(
        rules=[
            RetryRule([TransientError, ConnectionError, TimeoutError], RetryAction.RETRY, reason="may pass by itself"),
            RetryRule(ExtractionError, RetryAction.FAIL, reason="a person has to act; see the message"),
            RetryRule(Exception, RetryAction.FAIL, reason="not a transient error"),
        ]
    )


def _params(source: Source) -> dict[str, Param]:
    moment: dict[str, Any] = {"type": ["null", "string"], "pattern": _MOMENT}
    numbered = source.cursor is not None and source.cursor.numbered
    if numbered:
        moment["pattern"] = r"^-?[0-9]{1,38}$"
    zone = "A whole number" if numbered else f"ISO date or time, in {source.timezone} unless it names a zone"
    modes = [AS_SCHEDULED, "incremental", "full", "range"] if source.cursor else [AS_SCHEDULED, "full"]
    params = {"mode": Param(AS_SCHEDULED, type="string", enum=modes, description="What to read.")}
    if source.cursor:
        params |= {
            "start": Param(None, description=f"Mode range: first moment, or number, to read. {zone}.", **moment),
            "end": Param(
                None, description=f"Mode range: up to here, exclusive; all that is safe if empty. {zone}.", **moment
            ),
            "last_n_days": Param(
                None,
                type=["null", "integer"],
                minimum=1,
                maximum=36_500,
                description="Mode range, instead of start and end: this many whole days and today so far.",
            ),
        }
    # The form insists on a value for what cannot be null; scheduled runs have the default, which must be allowed.
    why = "Why this run; kept in the manifest and the audit."
    needed = source.require_reason
    kinds = "string" if needed else ["null", "string"]
    params["reason"] = Param("" if needed else None, type=kinds, maxLength=500, description=why)
    if source.validation.on_failure == "quarantine":
        which = "Key or id of a run: read again the rows that it has set aside, with the suite as it is now."
        params["release"] = Param(None, type=["null", "string"], maxLength=500, description=which)
        which = "Key or id of a run: delete for good the rows that it has set aside; nothing is read. Needs a reason."
        params["drop"] = Param(None, type=["null", "string"], maxLength=500, description=which)
    return params


def _wire(source: Source, mode: Mode) -> None:
    @task(pool=source.pool_name)
    def plan() -> list[dict[str, Any]]:
        from include.etl.phases.plan import plan as phase
        from include.etl.records.checkpoint import AirflowVariables

        planned = phase(_run(source), _asked(source), _trigger(mode), AirflowVariables())
        # Tasks can be mapped over a return value only, so the plan itself goes under a key of its own.
        get_current_context()["ti"].xcom_push(key="plan", value=planned.model_dump(mode="json"))
        return [part.model_dump() for part in planned.slices]

    @task(
        pool=source.pool_name,
        max_active_tis_per_dagrun=PARALLEL_SLICES,
        map_index_template="slice {{ task.op_kwargs['part']['index'] }}",
    )
    def extract(planned: Any, part: Any) -> dict[str, Any]:
        from include.etl.phases.extract import extract as phase

        return phase(_run(source), Plan(**planned), Slice(**part)).model_dump(mode="json")

    def validate(planned: Any, parts: Any) -> dict[str, Any]:
        from include.etl.phases.validate import check

        return check(_run(source), Plan(**planned), [Extracted(**part) for part in parts]).model_dump(mode="json")

    @task
    def transform(planned: Any, parts: Any) -> dict[str, Any]:
        from include.etl.phases.transform import transform as phase

        return phase(_run(source), Plan(**planned), [Extracted(**part) for part in parts]).model_dump(mode="json")

    def load(planned: Any, parts: Any, validated: Any, transformed: Any) -> dict[str, Any]:
        from include.etl.phases.load import load as phase
        from include.etl.records.checkpoint import AirflowVariables

        extracted = [Extracted(**part) for part in parts]
        verdict, interim = Validated(**validated), Transformed(**transformed)
        done = phase(_run(source), Plan(**planned), extracted, verdict, interim, AirflowVariables())
        return done.model_dump(mode="json")

    slices: Any = plan()
    planned = slices["plan"]
    parts = extract.partial(planned=planned).expand(part=slices)
    validated = ValidateOperator(
        task_id="validate",
        python_callable=validate,
        op_kwargs={"planned": planned, "parts": parts},
        pool=source.pool_name,
    )
    transformed = transform(planned, parts)
    validated >> transformed
    LoadOperator(
        task_id="load",
        source=source,
        python_callable=load,
        op_kwargs={
            "planned": planned,
            "parts": parts,
            "validated": validated.output,
            "transformed": transformed,
        },
    )


def _run(source: Source) -> Run:
    from include.etl.records.run import Run
    from include.etl.storage import Storage

    dag_run = get_current_context()["dag_run"]
    return Run(source, dag_run.run_id, Storage.from_environment(), dag_run.dag_id)


def _asked(source: Source) -> Parameters:
    """What the form or `--conf` asks for; a parameter that is not one of the form's is refused, not ignored."""
    from include.etl.phases.request import Parameters

    params, known = get_current_context()["params"], list(_params(source))
    unknown = sorted(set(params) - set(known))  # Airflow adds whatever `--conf` holds
    if unknown:
        raise ConfigurationError(
            f"source {source.source!r}: parameter {unknown[0]!r} is unknown; allowed: {', '.join(known)}"
        )
    asked = {name: params[name] for name in known}
    mode = None if asked["mode"] == AS_SCHEDULED else asked["mode"]
    return Parameters(**{**asked, "mode": mode, "reason": asked["reason"] or ""})


def _trigger(mode: Mode) -> Trigger:
    """What started the run; a manual run may have no data interval, or one that means nothing."""
    from include.etl.phases.request import Trigger

    dag_run = get_current_context()["dag_run"]
    kind, start, end = str(dag_run.run_type.value), dag_run.data_interval_start, dag_run.data_interval_end
    return Trigger(
        now=datetime.now(UTC),
        interval=(start, end) if start and end else None,
        scheduled=kind == "scheduled",
        backfill=kind == "backfill",
        default_mode=mode,
        triggered_by=dag_run.triggering_user_name or "",
    )


def _broken(source: BrokenSource) -> DAG:
    with DAG(
        dag_id=source.source,
        description="This source's configuration is wrong; see its task's error.",
        doc_md=f"# {source.source} cannot run\n\n```\n{source.error}\n```\n",
        schedule=None,
        tags=["broken"],
        catchup=False,
    ) as dag:

        @task
        def configuration() -> None:
            raise ConfigurationError(source.error)

        configuration()
    return dag
