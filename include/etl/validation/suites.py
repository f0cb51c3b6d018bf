"""A suite file: plain Great Expectations 1.x JSON, read and checked for its shape, without importing GX."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.etl.errors import ConfigurationError

BATCH = "batch"
"""The name under which SQL sees the rows being checked."""

SEVERITIES = ("critical", "warning", "info")
SUITE_KEYS = ("name", "expectations", "meta", "notes", "id")
ENTRY_KEYS = ("type", "kwargs", "severity", "description", "meta", "notes", "id")
REFERENCE_CHECK = "expect_column_values_to_exist_in_reference"


@dataclass(frozen=True)
class Entry:
    """One expectation as the file writes it; `number` counts from 1, as a person would."""

    number: int
    type: str
    kwargs: dict[str, Any]
    severity: str
    description: str

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"expectation {self.number} ({self.type})"


@dataclass(frozen=True)
class Suite:
    """A suite whose shape is right; whether its expectations are is for `rules.py` to say."""

    path: Path
    name: str
    entries: list[Entry]

    def references(self) -> dict[str, list[str]]:
        """Name of each reference -> the columns that the suite compares with, sorted."""
        needed: dict[str, set[str]] = {}
        for entry in self.entries:
            name = entry.kwargs.get("reference")
            if entry.type == REFERENCE_CHECK and isinstance(name, str):
                needed.setdefault(name, set()).update(as_list(entry.kwargs.get("reference_column")))
        return {name: sorted(columns) for name, columns in sorted(needed.items())}


def as_list(value: Any) -> list[str]:
    """One name or a list of names, as a list; nothing for anything else."""
    names = [value] if isinstance(value, str) else value
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def read_suite(path: Path) -> Suite:
    """Read a suite file; a ConfigurationError lists everything that is wrong with its shape."""
    content = _read_json(path)
    problems = list(_shape_problems(content))
    if problems:
        raise suite_error(path, problems)
    entries = [_entry(number, item) for number, item in enumerate(content["expectations"], 1)]
    return Suite(path, content.get("name") or path.stem, entries)


def suite_error(path: Path, problems: list[str]) -> ConfigurationError:
    """One error for all problems of a suite file."""
    found = problems[0] if len(problems) == 1 else "".join(f"\n  - {problem}" for problem in problems)
    return ConfigurationError(f"suite {path}: {found}")


def _read_json(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"suite {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"suite {path}: not UTF-8 text") from None
    if not text.strip():
        raise ConfigurationError(f"suite {path}: the file is empty; expected a JSON object with 'expectations'")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ConfigurationError(f"suite {path}: malformed JSON at {where}: {error.msg}") from None


def _shape_problems(content: Any) -> Iterator[str]:
    if not isinstance(content, dict):
        yield f"expected a JSON object with 'expectations', got {type(content).__name__}"
        return
    yield from _unknown_keys("", content, SUITE_KEYS)
    if not isinstance(content.get("name", ""), str):
        yield f"key 'name': expected text, got {content['name']!r}"
    expectations = content.get("expectations")
    if not isinstance(expectations, list) or not expectations:
        got = repr(expectations) if "expectations" in content else "nothing"
        yield f"key 'expectations': expected a list with at least one expectation, got {got}"
        return
    for number, item in enumerate(expectations, 1):
        yield from _entry_problems(f"expectation {number}", item)


def _entry_problems(label: str, item: Any) -> Iterator[str]:
    if not isinstance(item, dict):
        yield f"{label}: expected a JSON object with 'type' and 'kwargs', got {item!r}"
        return
    if not isinstance(item.get("type"), str):
        yield f"{label}: key 'type': expected the type of an expectation, got {item.get('type')!r}"
    yield from _unknown_keys(f"{label}: ", item, ENTRY_KEYS)
    if not isinstance(item.get("kwargs", {}), dict):
        yield f"{label}: key 'kwargs': expected a JSON object, got {item['kwargs']!r}"
    if item.get("severity", "critical") not in SEVERITIES:
        yield f"{label}: key 'severity': {item['severity']!r}; allowed: {', '.join(SEVERITIES)}"
    if not isinstance(item.get("description", ""), str):
        yield f"{label}: key 'description': expected text, got {item['description']!r}"


def _unknown_keys(label: str, item: dict[str, Any], allowed: tuple[str, ...]) -> Iterator[str]:
    for key in item:
        if key not in allowed:
            yield f"{label}unknown key {key!r}; allowed: {', '.join(allowed)}"


def _entry(number: int, item: dict[str, Any]) -> Entry:
    return Entry(
        number, item["type"], item.get("kwargs", {}), item.get("severity", "critical"), item.get("description", "")
    )
