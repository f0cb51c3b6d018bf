"""A run that reads nothing: it deletes for good what another one has set aside, as the command `drop` does."""

from __future__ import annotations

import logging

from include.etl import quarantine, quarantine_decisions
from include.etl.handover import Plan
from include.etl.phases.request import Parameters, refused
from include.etl.records.run import Run

log = logging.getLogger("etl.plan")


def planned(run: Run, parameters: Parameters, who: str) -> Plan:
    """A plan without slices, so that no task after it runs.

    Raises:
        ConfigurationError: nothing of that name is set aside, no reason, or something else is asked for too.
    """
    others = ("mode", "start", "end", "last_n_days", "release")
    if asked := [name for name in others if getattr(parameters, name) is not None]:
        raise refused(run.source, asked[0], getattr(parameters, asked[0]), "nothing with drop")
    if not parameters.reason.strip():
        raise refused(run.source, "reason", parameters.reason, "a sentence that says why, with drop")
    one = quarantine.one_of(run.storage, run.source.source, str(parameters.drop))
    return Plan(run_id=run.run_id, window=one.window, slices=[], reason=parameters.reason, triggered_by=who)


def drop(run: Run, plan: Plan, run_key: str) -> int:
    """Delete the rows, with a line in the audit and in the record of decisions; how many they were."""
    one = quarantine.one_of(run.storage, run.source.source, run_key)
    quarantine_decisions.drop(run.storage, one, plan.triggered_by, plan.reason)
    log.warning("%s: %d rows that run %s had set aside are deleted", run.source.source, one.rows, one.run_id)
    return one.rows
