"""What is published of an unchanged source does not hang on how windows are cut, nor on the order they are read in."""

from __future__ import annotations

from typing import Any

import pytest

from scripts import recover, verify
from tests.integration.conftest import VISITS, Project

INSERT = "INSERT INTO visits VALUES (?, ?, '1.00', 'x', ?)"
VERSIONS = [(key, 1 + (key + 3 * version) % 9) for key in range(20) for version in range(1 + key % 3)]
"""Key and day of the rows: two thirds of the keys come in several versions."""
EVERYTHING: dict[str, Any] = {}


def days(first: int, last: int) -> dict[str, Any]:
    return {"start": f"2024-01-{first:02d}", "end": f"2024-01-{last:02d}"}


WAYS = {
    "at once": [EVERYTHING],
    "in full": [{"mode": "full"}],
    "day by day": [days(day, day + 1) for day in range(1, 10)],
    "backwards": [days(6, 10), days(3, 6), days(1, 3)],
    "some days again": [EVERYTHING, days(3, 4), days(2, 8)],
    "overlapping, then in full": [days(4, 10), days(1, 6), {"mode": "full"}],
    "again": [days(1, 10), days(1, 10)],
}


@pytest.mark.parametrize("load", ["append", "merge"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_same_is_published(project: Project, load: str, way: list[dict[str, Any]]) -> None:
    project.configure(f"{VISITS}load: {load}\n")
    stamps = [f"2024-01-{day:02d} 08:00:00" for _, day in VERSIONS]
    project.execute(INSERT, [(key, stamp[:10], stamp) for (key, _), stamp in zip(VERSIONS, stamps, strict=True)])
    for parameters in way:
        project.run(**parameters)
    found = project.rows("visit_id, strftime(updated_at, '%d')::int")
    newest = {key: max(day for one, day in VERSIONS if one == key) for key, _ in VERSIONS}
    assert found == sorted(VERSIONS if load == "append" else newest.items())
    assert verify.main(["visits", "--window", "all"]) == 0


def test_recovery_adds_nothing(project: Project) -> None:
    project.configure(f"{VISITS}load: append\n")
    stamps = [f"2024-01-{day:02d} 08:00:00" for _, day in VERSIONS]
    project.execute(INSERT, [(key, stamp[:10], stamp) for (key, _), stamp in zip(VERSIONS, stamps, strict=True)])
    project.run()
    before = project.rows()
    next(project.published.glob("visit_date=2024-01-05/*.parquet")).unlink()
    assert recover.main(["run", "--reason", "a lost file", "--yes"]) == 0
    assert project.rows() == before
