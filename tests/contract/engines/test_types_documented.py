"""docs/types.md says what the contract suite proves, and nothing else."""

from __future__ import annotations

import re

import pyarrow as pa

from include.etl.config import INCLUDE
from include.etl.engines import mssql_types, mysql_types, oracle_types, postgres_types
from tests.contract.engines.test_types import APART, CASES, UNFIT
from tests.contract.engines.test_types_described import CODES

DOC = (INCLUDE.parent / "docs" / "types.md").read_text(encoding="utf-8")
SECTIONS = {
    "postgres": "## PostgreSQL",
    "mysql": "## MySQL and MariaDB",
    "mssql-pymssql": "## SQL Server",
    "oracle": "## Oracle",
    "sqlite": "## SQLite",
}
POSTGRES_NAMES = {
    16: "boolean", 17: "bytea", 20: "bigint", 21: "smallint", 23: "integer", 26: "oid", 700: "real",
    701: "double precision", 1082: "date", 1083: "time", 1114: "timestamp", 1184: "timestamptz",
}  # fmt: skip
MYSQL_NAMES = {
    mysql_types.TINY: "tinyint", mysql_types.SHORT: "smallint", mysql_types.INT24: "mediumint",
    mysql_types.LONG: "int", mysql_types.LONGLONG: "bigint", mysql_types.YEAR: "year", mysql_types.FLOAT: "float",
    mysql_types.DOUBLE: "double", mysql_types.DATE: "date", mysql_types.NEWDATE: "date",
    mysql_types.DATETIME: "datetime", mysql_types.TIMESTAMP: "timestamp", mysql_types.BIT: "bit",
    mysql_types.GEOMETRY: "point", mysql_types.VECTOR: "vector",
}  # fmt: skip


def section(kind: str) -> str:
    return DOC.split(f"{SECTIONS[kind]}\n", 1)[1].split("\n## ", 1)[0]


def test_every_proven_type_is_documented_and_no_other() -> None:
    for kind in SECTIONS:
        proven = {f"| `{declared or '(none)'}` | `{arrow}` |" for declared, _, arrow, _ in CASES[kind]}
        proven |= {f"| `{declared}` | `{arrow}` |" for declared, arrow in APART.get(kind, [])}
        written = {line for line in section(kind).splitlines() if line.startswith("| `")}
        assert written == proven


def test_every_type_that_an_engine_knows_is_documented() -> None:
    oracle = {code: name for name, code in CODES.items()}
    known = {
        "postgres": [POSTGRES_NAMES[oid] for oid in postgres_types.TYPES],
        "mysql": [MYSQL_NAMES[code] for code in (*mysql_types.INTEGERS, *mysql_types.TYPES)],
        "mssql-pymssql": [*mssql_types.TYPES, *mssql_types.TEXT, "decimal", "datetime2", "time"],
        "oracle": [oracle[code] for code in (*oracle_types.TYPES, *oracle_types.AS_TEXT, *oracle_types.TIMESTAMPS)],
    }
    for kind, names in known.items():
        bare = re.sub(r"\(\d+(,\d+)?\)", "", section(kind))
        assert not [name for name in names if f"`{name}`" not in bare and f"`{name} " not in bare]


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
