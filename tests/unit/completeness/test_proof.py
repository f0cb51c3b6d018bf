"""The proof of a publication: which links it has, what breaks it, and when it may say `verified`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from include.etl.completeness.extraction import FILE, SliceTotals
from include.etl.completeness.publication import prove
from include.etl.completeness.totals import Totals
from include.etl.errors import StorageError
from include.etl.handover import Extracted, Slice, Window
from include.etl.publication import files
from include.etl.publication.schema import encoded
from include.etl.records.manifest import Completeness
from include.etl.records.run import Run
from include.etl.storage import Storage, write_json
from tests.unit.etl.test_plan import NOW, source

SCHEMA = pa.schema([("visit_id", pa.int64()), ("remark", pa.string())])
SOURCE = source(
    output={"formats": ["parquet", "csv"]}, transform={"rename": {"note": "remark"}}, verify={"columns": ["note"]}
)


def proven(
    tmp_path: Path,
    slices: list[tuple[int | None, int, str]],
    removed: dict[str, int] | None = None,
    quarantined: int | None = None,
    kept: int = 0,
    deleted: int = 0,
    rows: int = 5,
    caveats: tuple[str, ...] = (),
    rewritten: int | None = None,
) -> Completeness:
    """Of slices with (rows of the source, rows of the raw parts, reason); `rows` are published, 3 of another file."""
    storage, interim = Storage(tmp_path), tmp_path / "interim.parquet"
    extracted = []
    for number, (counted, raw, reason) in enumerate(slices):
        folder = storage.folder("raw", f"slice-{number}")
        totals = SliceTotals(
            source=None if counted is None else Totals(rows=counted), raw=Totals(rows=raw), reason=reason
        )
        write_json(folder / FILE, totals.model_dump())
        part = {"slice": Slice(index=number), "parts": [storage.relative(folder / "part-00000.parquet")]}
        counts = {"rows": raw, "bytes": 1, "query_hash": "", "extracted_at": NOW, "caveats": list(caveats[number:])}
        extracted.append(Extracted(**part, **counts))
    table = pa.table({"visit_id": range(rows), "remark": [f"n{number}" for number in range(rows)]}, SCHEMA)
    pq.write_table(table, interim)
    staging = storage.folder("staging", "visits")
    window = Window(mode="full", end=NOW)
    written = files.write(SOURCE, window, interim, staging / "new", None)
    manifest: Any = SimpleNamespace(
        source="visits",
        files=written,
        partition_by=None,
        arrow_schema=encoded(SCHEMA),
        validation={} if quarantined is None else {"quarantined": quarantined},
        rows=SimpleNamespace(removed=removed or {}),
        kept=kept,
        deleted=deleted,
    )
    changes = [SimpleNamespace(manifest=manifest, new=None)]
    for file in written if rewritten is not None else ():
        (staging / "rewritten").mkdir(exist_ok=True)
        (staging / "rewritten" / file.path).write_bytes((staging / "new" / file.path).read_bytes())
        changes.append(SimpleNamespace(manifest=manifest, new=file.model_copy(update={"rows": rewritten})))
    return prove(Run(SOURCE, "run", storage), extracted, manifest, interim, staging, changes)  # type: ignore[arg-type]


def test_all_links_are_recorded(tmp_path: Path) -> None:
    found = proven(tmp_path, [(4, 4, ""), (3, 3, "")], {"older": 1, "again": 1}, rewritten=5)
    assert (found.verified, found.reason) == (True, "")
    assert [(check.link, check.expected["rows"], check.found["rows"]) for check in found.checks] == [
        ("source = raw parts", 7, 7),
        ("raw parts - removed = published rows", 5, 5),
        ("published rows = parquet files", 5, 5),
        ("published rows = csv files", 5, 5),
    ]
    assert all(check.found["columns"]["remark"]["values"] == 5 for check in found.checks[2:])


@pytest.mark.parametrize(
    ("slices", "caveats", "reason"),
    [
        ([(2, 2, ""), (None, 3, "not asked")], (), "not asked"),
        ([(2, 2, "changing"), (3, 3, "changing")], (), "changing"),
        ([(2, 2, "changing"), (None, 3, "not asked")], (), "changing; not asked"),
        ([(2, 2, ""), (3, 3, "")], ("a setting", "a setting"), "a setting"),
        ([(2, 2, "changing"), (3, 3, "")], ("a setting", "a view"), "changing; a setting; a view"),
    ],
)
def test_it_is_verified_only_where_every_slice_is(
    tmp_path: Path, slices: list[tuple[int | None, int, str]], caveats: tuple[str, ...], reason: str
) -> None:
    found = proven(tmp_path, slices, caveats=caveats)
    assert (found.verified, found.reason) == (False, reason)
    asked = all(counted is not None for counted, *_ in slices)
    assert ("source = raw parts" in [check.link for check in found.checks]) is asked


@pytest.mark.parametrize(("kept", "deleted"), [(2, 0), (0, 2), (1, 1)])
def test_rows_that_are_taken_over_were_not_read_now(tmp_path: Path, kept: int, deleted: int) -> None:
    assert proven(tmp_path, [(3, 3, "")], kept=kept, deleted=deleted).verified
    with pytest.raises(StorageError, match=r"\(raw parts - removed = published rows\): rows: 4 and 3; nothing"):
        proven(tmp_path / "more", [(4, 4, "")], kept=kept, deleted=deleted)


@pytest.mark.parametrize(
    ("removed", "quarantined"), [({"quarantined": 2}, None), ({"quarantined": 2}, 1), ({}, 2), ({"older": 2}, 2)]
)
def test_what_validate_set_aside_is_what_transform_left_out(
    tmp_path: Path, removed: dict[str, int], quarantined: int | None
) -> None:
    message = (
        f"{quarantined or 0} rows were set aside by validate, {removed.get('quarantined', 0)} left out by transform"
    )
    with pytest.raises(StorageError, match=message):
        proven(tmp_path, [(7, 7, "")], removed, quarantined)
    assert proven(tmp_path / "same", [(7, 7, "")], {"quarantined": 2}, 2).verified


def test_a_rewritten_file_is_read_back(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="6 rows were written, 5 read back"):
        proven(tmp_path, [(5, 5, "")], rewritten=6)
