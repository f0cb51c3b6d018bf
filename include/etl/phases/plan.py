"""Decides which rows a run covers, from its mode, its data interval and the checkpoint, and in which slices.

Of the database it asks who may still write, and the catalogue.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from include.etl import cursor_check, numbers, quarantine, quarantine_decisions, set_back, slices
from include.etl.config import Source
from include.etl.engines import open_source
from include.etl.engines.base import Writers
from include.etl.handover import Plan, Slice, Window, written
from include.etl.horizon import conditions, horizon, refuse_too_old, with_cures
from include.etl.phases import dropping
from include.etl.phases.request import Parameters, Trigger, choose_mode, range_of, refused, window_of
from include.etl.publication import standing
from include.etl.query import build
from include.etl.records import checkpoint, checkpoint_edits, extraction_audit
from include.etl.records import manifest as manifests
from include.etl.records.run import Run, begin_anew, close_interrupted, measured
from include.etl.survey import survey

log = logging.getLogger("etl.plan")


def plan(run: Run, parameters: Parameters, trigger: Trigger, variables: checkpoint.Variables) -> Plan:
    """The window and its slices, recorded; no slices where nothing can be read safely yet.

    Raises:
        ConfigurationError: a parameter makes no sense, or the checkpoint cannot be used.
        WriterTooOld: nothing can be read safely, and has not been for long.
        DataError: the cursor column holds values that no window holds, and the source refuses them.
    """
    with measured(run, "plan") as counter:
        begin_anew(run)
        close_interrupted(run)
        counter.facts = {"who": trigger.who, "reason": parameters.reason}
        if _uses_checkpoint(run.source, parameters, trigger):
            checkpoint_edits.record(run.source, variables, run.storage)
        decided = decide(run, parameters, trigger, variables, lambda: look(run.source))
        decided = with_attached(run, decided)
        if parameters.drop:
            counter.facts.update(slices=0, dropped=dropping.drop(run, decided, parameters.drop))
            return decided
        found = cursor_check.check(run.source, decided.window.mode)
        decided = decided.model_copy(update={"bound": found.on(decided.bound)})
        counter.facts.update(window=decided.window.model_dump(mode="json"), bound=decided.bound.model_dump(mode="json"))
        counter.facts.update(slices=len(decided.slices), conditions=conditions(run.source, decided.bound))
        numbers.remember(run.storage, run.source, decided.bound)
        if run.source.cursor and run.source.cursor.numbered:
            set_back.remember(run, decided.window, decided.bound)
        if not decided.slices:
            refuse_too_old(run.source, decided.bound)
            extraction_audit.started(run, decided, trigger.kind)
            if decided.bound.held or decided.bound.caveats:
                log.warning("%s: nothing can be read safely yet: %s", run.source.source, decided.bound.label)
            else:
                log.info(
                    "%s: nothing new to read: everything before %s was read", run.source.source, decided.window.end
                )
            return decided
        cuts = survey(run.source, decided.window)
        slices.keep(run, cuts)
        numbered = [Slice(index=number) for number in range(len(cuts))]
        decided = decided.model_copy(update={"slices": numbered, "id": uuid4().hex})
        counter.facts["slices"] = len(decided.slices)
        extraction_audit.started(run, decided, trigger.kind)
        log.info("%s reads %s; its end: %s", run.source.source, decided.window.label, decided.bound.label)
        return decided


def _uses_checkpoint(source: Source, parameters: Parameters, trigger: Trigger) -> bool:
    if source.cursor is None or parameters.drop or parameters.release:
        return False
    return choose_mode(source, parameters, trigger) in ("incremental", "full")


def look(source: Source) -> Writers:
    """Who may still write to what the source reads, and what its clock says.

    Where rows come from another server, this one's transactions tell nothing of those who write them.
    """
    engine = open_source(source, f"moh-etl {source.source} plan")
    with engine.session() as session:
        writers = session.writers()
        origins = session.origins(build(source, engine.dialect, Window(mode="full", end=writers.now)))
    if origins.elsewhere:
        writers = writers._replace(unseen=origins.elsewhere, curable=False)
    return writers._replace(origins=with_cures(source, origins))


def with_attached(run: Run, decided: Plan) -> Plan:
    """The plan with a caveat where a table with rows of its own was attached since the newest publication."""
    known = manifests.current(run.storage, run.source.source)
    if not known or decided.window.read_from is None:
        return decided
    before = max(known, key=lambda one: one.published_at).bound
    new = set(decided.bound.attached) - set(before.partitions) if before.relations else set()
    if not new:
        return decided
    caveat = (
        f"{', '.join(sorted(new))}: attached since the last run, with rows of before; those that are stamped before "
        f"{decided.window.read_from} are in no later window: run once with mode full, or with the range of their stamps"
    )
    bound = decided.bound.model_copy(
        update={"caveats": [*decided.bound.caveats, caveat], "degraded": True, "grade": "not proven"}
    )
    return decided.model_copy(update={"bound": bound})


def decide(
    run: Run,
    parameters: Parameters,
    trigger: Trigger,
    variables: checkpoint.Variables,
    look: Callable[[], Writers] | None = None,
) -> Plan:
    """The same without a record, for a dry run. `look` says who may still write; without it the end is as asked.

    A run that has published before (it was cleared) gets its old window again, and so replaces its own files.
    """
    _check_reason(run.source, parameters, trigger)
    if parameters.drop:
        return dropping.planned(run, parameters, trigger.who)
    if parameters.release:
        parameters = _releasing(run, parameters)
    mode = choose_mode(run.source, parameters, trigger)
    numbered = run.source.cursor is not None and run.source.cursor.numbered
    if mode == "range" and not numbered:
        range_of(run.source, parameters, trigger)  # what makes no sense is refused before the source is asked
    planned = partial(
        Plan,
        run_id=run.run_id,
        reason=parameters.reason,
        triggered_by=trigger.who,
        releases=parameters.release,
        keep_published=parameters.keep_published,
    )
    earlier = standing.of_run(run.storage, run.source.source, run.dag_id, run.run_id)
    if earlier:
        return planned(window=earlier.window, bound=earlier.bound.without_checks())
    if numbered:
        assert look is not None
        if parameters.last_n_days is not None:
            raise refused(run.source, "last_n_days", parameters.last_n_days, "nothing: the cursor is a number")
        window, bound, something = numbers.decide(run, mode, parameters, variables, look)
        return planned(window=window, bound=bound, relations=bound.relations, slices=[Slice()] if something else [])
    writers = look() if look and run.source.cursor else None
    if writers and parameters.end is None:
        trigger = replace(trigger, now=writers.now)
    window = window_of(run.source, mode, parameters, trigger, variables, run.storage)
    if writers is None or run.source.cursor is None:
        return planned(window=window)
    assert isinstance(window.end, datetime)  # the cursor is a time
    bound = horizon(run.source.cursor, window.end, writers)
    safe: Any = bound.safe or window.end
    begin: Any = window.start
    end = safe if begin is None else max(safe, begin)
    empty = begin is not None and (safe < begin or window.read_from == end)
    window = window.model_copy(update={"end": end})
    return planned(window=window, bound=bound, relations=bound.relations, slices=[] if empty else [Slice()])


def _check_reason(source: Source, parameters: Parameters, trigger: Trigger) -> None:
    if source.require_reason and trigger.kind == "by hand" and not parameters.reason.strip():
        raise refused(source, "reason", parameters.reason, "a sentence that says why, since require_reason is true")


def _releasing(run: Run, parameters: Parameters) -> Parameters:
    """What to read so that the rows that a run has set aside are read again."""
    asked = [name for name in ("mode", "start", "end", "last_n_days") if getattr(parameters, name) is not None]
    if asked:
        raise refused(run.source, asked[0], getattr(parameters, asked[0]), "nothing with release")
    one = quarantine.one_of(run.storage, run.source.source, str(parameters.release))
    reason = parameters.reason or f"release of what run {one.run_id} has set aside"
    span = quarantine_decisions.span(run.storage, run.source, one)
    if span is None:
        keep = bool(run.source.primary_key)  # who releases some rows has not asked to let go of others
        return Parameters(mode="full", reason=reason, release=one.run_key, keep_published=keep)
    start, end = (written(position) for position in span)
    return Parameters(mode="range", start=start, end=end, reason=reason, release=one.run_key)
