"""docs/types.md says what the contract suite proves, and nothing else."""

from __future__ import annotations

import pyarrow as pa

from include.etl.config import INCLUDE
from tests.contract.engines.test_types import CASES, UNFIT

DOC = (INCLUDE.parent / "docs" / "types.md").read_text(encoding="utf-8")
SECTIONS = {
    "postgres": "## PostgreSQL",
    "mysql": "## MySQL and MariaDB",
    "mssql-pymssql": "## SQL Server",
    "oracle": "## Oracle",
    "sqlite": "## SQLite",
}


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


def test_what_csv_and_excel_make_of_every_arrow_type_is_documented() -> None:
    page = (INCLUDE.parent / "docs" / "outputs.md").read_text(encoding="utf-8")
    arrow = {kind for cases in CASES.values() for _, _, kind, _ in cases}
    arrow |= {pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.time64("ns")}  # of seven digits and more
    named = {str(kind).replace("tz=", "").replace("[day]", "") for kind in arrow}
    assert not {name for name in named if f"| {_family(name)}" not in page}


def _family(name: str) -> str:
    """What the page shows of types that differ in width alone: the first of their kind."""
    if name.startswith("decimal128"):
        return "decimal128("
    if name.startswith("int"):
        return "int64"
    return "uint64" if name.startswith("uint") else name
