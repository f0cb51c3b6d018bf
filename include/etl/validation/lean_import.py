"""Imports Great Expectations without libraries that are for what is not called here: 90 MB and a second less."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

LATER = ("scipy.stats", "altair")
"""Needed by a few expectations on distributions, and to draw them: imported when one of them is used."""
ABSENT = ("azure",)
"""Needed for suites that lie in Azure; Great Expectations does without, as if it were not installed."""


class _Later(ModuleType):
    """Stands for a module until something is asked of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # questions of the import system itself
            raise AttributeError(name)
        return getattr(import_module(self.__name__), name)


@contextmanager
def lean() -> Iterator[None]:
    """Within it the modules above seem to be imported, or missing; what is imported already stays as it is."""
    placed: dict[str, ModuleType | None] = {name: _Later(name) for name in LATER if name not in sys.modules}
    placed |= {name: None for name in ABSENT if name not in sys.modules}
    for name, module in placed.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(import_module(parent), child, module)
        sys.modules[name] = module  # type: ignore[assignment]  # None means: not installed
    try:
        yield
    finally:
        for name in placed:
            del sys.modules[name]
            parent, _, child = name.rpartition(".")
            if parent:
                delattr(import_module(parent), child)
