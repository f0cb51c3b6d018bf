"""docs/types.md says what the contract suite proves, and nothing else."""

from __future__ import annotations

from include.etl.config import INCLUDE
from tests.contract.engines.test_types import CASES, UNFIT

DOC = (INCLUDE.parent / "docs" / "types.md").read_text(encoding="utf-8")
SECTIONS = {"postgres": "## PostgreSQL", "mysql": "## MySQL and MariaDB", "sqlite": "## SQLite"}


def section(kind: str) -> str:
    return DOC.split(f"{SECTIONS[kind]}\n", 1)[1].split("\n## ", 1)[0]


def test_every_proven_type_is_documented_and_no_other() -> None:
    for kind in SECTIONS:
        proven = {f"| `{declared or '(none)'}` | `{arrow}` |" for declared, _, arrow, _ in CASES[kind]}
        written = {line for line in section(kind).splitlines() if line.startswith("| `")}
        assert written == proven


def test_every_refusal_is_documented() -> None:
    for kind in SECTIONS:
        for declared, value in UNFIT[kind]:
            assert f"`{declared}` holding `{value}`" in section(kind)
