"""Reads include/sources: each file becomes a Source, or a BrokenSource that says what is wrong with it."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from include.etl.config import Source, include_folder
from include.etl.config_alerts import Alerts
from include.etl.errors import ConfigurationError

DEFAULTS = "_defaults.yaml"
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast, and in every wheel


class _Loader(_Safe):  # type: ignore[misc]
    """A safe loader that refuses a key given twice, of which YAML's own takes the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} comes twice", node.start_mark)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


@dataclass(frozen=True)
class BrokenSource:
    """A source file that cannot be used; it must not hide the other sources."""

    source: str
    error: str


def load_sources(folder: Path | None = None) -> list[Source | BrokenSource]:
    """All sources of the folder in the order of their names; never raises for one broken file."""
    found = (folder or include_folder() / "sources").iterdir()
    paths = sorted(path for path in found if path.suffix in (".yaml", ".yml") and not path.name.startswith("_"))
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


def default_alerts(folder: Path | None = None) -> Alerts:
    """Who is told where a source's own file cannot be read: what the defaults say, or the log alone."""
    try:
        content = _read((folder or include_folder() / "sources") / DEFAULTS)
        return Alerts.model_validate(content.get("alerts", {}))
    except (ConfigurationError, ValidationError):
        return Alerts()


def _load_or_explain(path: Path) -> Source | BrokenSource:
    try:
        return _load(path)
    except ConfigurationError as error:
        return BrokenSource(_dag_id(path), str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not hide the other sources
        return BrokenSource(_dag_id(path), f"{path.name}: cannot be read: {type(error).__name__}: {error}")


def _dag_id(path: Path) -> str:
    """The file's name as far as it can be a DAG's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", path.stem)[:200] or "_"


def _load(path: Path) -> Source:
    if path.suffix != ".yaml":
        raise ConfigurationError(f"{path.name}: file name ends in {path.suffix!r}; allowed: '.yaml'")
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
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe loader
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
            shown = "" if isinstance(issue["input"], dict) else f" {_shown(issue['input'])};"
            yield f"{path.name}: {key}:{shown} allowed: {allowed}"


def _shown(value: Any) -> str:
    """The value, unless it looks like an address: a connection's with a password in it, a webhook that is secret."""
    return "(not shown: it looks like a credential)" if "://" in str(value) else repr(value)


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
    if isinstance(source, BrokenSource):
        return replace(source, source=f"{source.source}_broken") if taken[source.source] else source
    double = [dag_id for dag_id in source.dag_ids.values() if taken[dag_id] > 1]
    if not double:
        return source
    message = f"{source.source}.yaml: DAG id {double[0]!r} is also another source's; rename one of the two"
    return BrokenSource(source.source, message)
