"""What a recovery or a drill found and did: JSON for machines, text for people, below data/reports/_recovery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from include.etl.storage import FILE_MODE, Storage, plain_name, write_json

WORST_FIRST = ("failed", "different", "not checked", "recovered")
Report = dict[str, Any]


def folder(storage: Storage, stamp: str) -> Path:
    """The folder of one recovery's reports."""
    return storage.folder("reports", "_recovery", plain_name(stamp))


def verdict(sources: Sequence[Mapping[str, Any]]) -> str:
    """The worst of all sources; a recovery of nothing has failed."""
    found = {one["verdict"] for one in sources}
    return next((one for one in WORST_FIRST if one in found), "failed")


def write(storage: Storage, stamp: str, report: Report) -> Path:
    """Both forms; the path of the text."""
    return _write(folder(storage, stamp), "report", report, lines(report))


def write_drill(storage: Storage, stamp: str, found: Report, text: Sequence[str]) -> Path:
    """The same of a drill."""
    return _write(folder(storage, stamp), "drill", found, text)


def _write(target: Path, name: str, report: Report, text: Sequence[str]) -> Path:
    write_json(target / f"{name}.json", report)
    path = target / f"{name}.txt"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    path.chmod(FILE_MODE)
    return path


def lines(report: Report) -> list[str]:
    """As a person reads it, the verdict first."""
    head = [f"recovery {report['recovery']}: {report['verdict'].upper()}", f"why: {report['reason']}"]
    head.append(
        f"backup: {report['backup'] or 'none used'}; {len(report['configuration'])} files of configuration put back"
    )
    head += [f"    {name}" for name in report["configuration"]]
    return [*head, *(line for one in report["sources"] for line in _of_source(one))]


def _of_source(one: Mapping[str, Any]) -> list[str]:
    text = [f"{one['source']}: {one['verdict']} in {one['seconds']} s"]
    if one["error"]:
        text.append(f"    error: {one['error']}")
    if one["checkpoint"]:
        text.append(f"    checkpoint: {one['checkpoint']}")
    text += [f"    damage: {line}" for line in one["damage"]]
    if one["set_aside"]:
        text.append(f"    damaged files are kept in data/{one['set_aside']}")
    text.append(f"    {one['whole_rows']} published rows were whole")
    text += [f"    read again: {window}" for window in one["read_again"]]
    text.append(f"    {one['rows']} rows read, {one['standing_rows']} rows stand published")
    for finding in one["findings"]:
        text.append(f"    window {finding['window']}: {finding['verdict']}")
        text += [f"        {line}" for line in (*finding["differences"], *finding["unchecked"])]
    return text
