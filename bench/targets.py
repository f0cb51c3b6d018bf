"""What was to be reached, and by how much it was reached or missed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.summary import Number, Results, inside, of_steps, peak, total, wall

AFTER = ("validate", "transform", "load")


@dataclass(frozen=True)
class Target:
    """A number that must not be above its limit."""

    what: str
    limit: str
    reached: str
    share: float | None
    """Reached, as a share of the limit; above 1 it is missed; None where it was not measured."""

    @property
    def verdict(self) -> str:
        """In words."""
        if self.share is None:
            return "not measured"
        return f"**yes**, {1 / self.share:.2f}x better" if self.share <= 1 else f"**no**, {self.share:.2f}x the limit"


def targets(results: Results) -> Iterator[Target]:
    """All of them, in the order of the issue."""
    ask = results.median
    for label, strict in (("every exact peer", True), ("every peer that is exact on lineitem alone", False)):
        yield _ratio(results, f"PostgreSQL: faster than {label}", wall, "postgres", _exact_peer(results, strict), 1)
    for label, number in (("whole process", wall), ("reading alone, without imports", inside)):
        yield _ratio(results, f"PostgreSQL against the raw COPY drain, {label}", number, "postgres", "raw drain", 1.25)
    yield Target("SQL Server against `arrow_reader` alone", "1.1x", "no server of it can be had here", None)
    for label, number in (("whole process", wall), ("reading alone, without imports", inside)):
        yield _ratio(results, f"MariaDB against ConnectorX, {label}", number, "mysql", "ConnectorX", 1.1)
    server = total("server_cpu")
    yield _ratio(results, "MariaDB: server CPU against a plain SELECT", server, "mysql", "raw drain", 1.3)
    for label, number in (("whole processes", wall), ("in a worker, which has started Airflow", inside)):
        flow, drained = (ask(number, "flow", "postgres", name) for name in ("ours", "raw drain"))
        yield _target(f"whole flow against the raw COPY drain, {label}", 4, flow, drained)
    mine = ask(of_steps("seconds", *AFTER), "flow", "postgres", "ours")
    theirs = ask(of_steps("seconds", ", ".join(AFTER)), "flow", "postgres", "pandas")
    yield _target("validate + transform + load against pandas, time", 0.1, mine, theirs)
    mine, theirs = (
        ask(peak(*AFTER), "flow", "postgres", "ours"),
        ask(peak(", ".join(AFTER)), "flow", "postgres", "pandas"),
    )
    yield _target("validate + transform + load against pandas, memory", 0.2, mine, theirs)
    parsing: dict[str, Number] = {"parsed": lambda run: float(run["parse_seconds"]), "parsed and serialised": inside}
    for label, timed in parsing.items():
        yield _limit(f"1,000 sources {label}", 10, " s", ask(timed, "parse", "airflow", "1000 sources"))
    for phase in ("extract", *AFTER):
        most = ask(peak(phase), "flow", "postgres", "ours")
        yield _limit(f"peak memory of {phase}, 6 million rows", 500, " MB", most)
    for phase in ("extract", *AFTER):
        names = results.names("scale", "postgres")
        peaks = [ask(peak(phase), "scale", "postgres", name) for name in names]
        known = [value for value in peaks if value is not None]
        measured = ", ".join(names) or "up to 10x"
        yield _limit(f"peak memory of {phase}, {measured} 6 million rows", 500, " MB", max(known) if known else None)
    for engine, name in (("postgres", "PostgreSQL"), ("mysql", "MariaDB")):
        most = ask(peak(), "wide", engine, "ours")
        yield _limit(f"peak memory of extract, rows of 1 MiB, {name}", 500, " MB", most)


def _exact_peer(results: Results, strict: bool) -> str:
    """The fastest peer on PostgreSQL that changes nothing: in lineitem and, if strict, in the probes either."""
    exact = [
        (seconds, name)
        for name in results.names("readers", "postgres")
        if name not in ("ours", "raw drain") and not results.changes("postgres", name, probes=strict)
        if (seconds := results.median(wall, "readers", "postgres", name)) is not None
    ]
    return min(exact)[1] if exact else "no peer is exact"


def _ratio(results: Results, what: str, number: Number, engine: str, other: str, limit: float) -> Target:
    mine, theirs = (results.median(number, "readers", engine, name) for name in ("ours", other))
    return _target(f"{what} ({other})" if limit == 1 else what, limit, mine, theirs)


def _target(what: str, limit: float, mine: float | None, theirs: float | None) -> Target:
    if mine is None or not theirs:
        return Target(what, f"{limit:g}x", "-", None)
    ratio = mine / theirs
    return Target(what, f"{limit:g}x", f"{ratio:.2f}x ({mine:,.1f} against {theirs:,.1f})", ratio / limit)


def _limit(what: str, limit: float, unit: str, mine: float | None) -> Target:
    if mine is None:
        return Target(what, f"{limit:g}{unit}", "-", None)
    return Target(what, f"{limit:g}{unit}", f"{mine:,.1f}{unit}", mine / limit)
