"""Reads include/sources: each file becomes a Source, or a BrokenSource that says what is wrong with it."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from include.etl.config import Source, include_folder
from include.etl.errors import ConfigurationError

DEFAULTS = "_defaults.yaml"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast, and in every wheel


@dataclass(frozen=True)
class BrokenSource:
    """A source file that cannot be used; it must not hide the other sources."""

    source: str
    error: str


def load_sources(folder: Path | None = None) -> list[Source | BrokenSource]:
    """All sources of the folder in the order of their names; never raises for one broken file."""
    found = (folder or include_folder() / "sources").glob("*.yaml")
    paths = sorted(path for path in found if not path.name.startswith("_"))
    loaded = [_load_or_explain(path) for path in paths]
    taken = Counter(dag_id for source in loaded if isinstance(source, Source) for dag_id in source.dag_ids.values())
    return [_refuse_taken(source, taken) for source in loaded]


def load_source(name: str, folder: Path | None = None) -> Source:
    """The source with this name.

    Raises:
        ConfigurationError: no such source (with the names that exist), or its file is broken.
    """
    found = {source.source: source for source in load_sources(folder)}
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(f"source {name!r} does not exist{hint}; allowed: {', '.join(found) or 'none yet'}")
    source = found[name]
    if isinstance(source, BrokenSource):
        raise ConfigurationError(source.error)
    return source


def _load_or_explain(path: Path) -> Source | BrokenSource:
    try:
        return _load(path)
    except ConfigurationError as error:
        return BrokenSource(path.stem, str(error))


def _load(path: Path) -> Source:
    merged = _merge(_read(path.parent / DEFAULTS), _read(path))
    try:
        source = Source.model_validate(merged)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_explain(path, error))) from None
    if source.source != path.stem:
        raise ConfigurationError(f"{path.name}: source: {source.source!r}; allowed: {path.stem!r}, the file's own name")
    return source


def _read(path: Path) -> dict[str, Any]:
    if path.name == DEFAULTS and not path.exists():
        return {}
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - both are safe loaders
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(f"{path.name}: not valid YAML{where}: {error.problem}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path.name}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path.name}: {type(content).__name__} at the top; allowed: a mapping of keys")
    return content


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` wins, key by key; lists are replaced, not joined."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _explain(path: Path, error: ValidationError) -> Iterator[str]:
    for issue in error.errors(include_url=False):
        key = ".".join(str(part) for part in issue["loc"]) or "(whole file)"
        if issue["type"] == "extra_forbidden":
            yield f"{path.name}: {key}: unknown key; allowed: {', '.join(_keys_beside(issue['loc']))}"
        elif issue["type"] == "missing":
            yield f"{path.name}: {key}: missing; this key is required"
        else:
            allowed = issue["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(issue["input"], dict) else f" {issue['input']!r};"
            yield f"{path.name}: {key}:{shown} allowed: {allowed}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The keys that are allowed where an unknown key was found."""
    model: type[BaseModel] = Source
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        inner = [kind for kind in _types(field.annotation) if issubclass(kind, BaseModel)] if field else []
        model = inner[0] if inner else model
    return list(model.model_fields)


def _types(annotation: Any) -> list[type]:
    arguments = [inner for argument in get_args(annotation) for inner in _types(argument)]
    return arguments + ([annotation] if isinstance(annotation, type) and not get_args(annotation) else [])


def _refuse_taken(source: Source | BrokenSource, taken: Counter[str]) -> Source | BrokenSource:
    double = [dag_id for dag_id in getattr(source, "dag_ids", {}).values() if taken[dag_id] > 1]
    if not double:
        return source
    message = f"{source.source}.yaml: DAG id {double[0]!r} is also another source's; rename one of the two"
    return BrokenSource(source.source, message)
