"""What has to be read again because of damage: cursor values of both kinds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.etl.config import Source
from include.etl.config_sections import Schedule
from include.etl.handover import Bound, Position, Window
from include.etl.publication.files import cursor_number, cursor_text
from include.etl.records import covers
from include.etl.records.manifest import Covered, Manifest, PublishedFile, Rows
from include.etl.recovery import spans
from include.etl.recovery.damage import Damage
from include.etl.recovery.spans import Span, gaps, merged, named_span, reached
from include.etl.storage import Storage, write_json

NUMBERED = {"column": "n", "type": "number"}


def day(number: int) -> datetime:
    return datetime(2024, 1, number, tzinfo=UTC)


def place(number: int | None, *, numbered: bool) -> Position | None:
    return number if numbered or number is None else day(number)


def source(cursor: dict[str, Any]) -> Source:
    return Source.model_validate(
        {
            "source": "visits",
            "description": "Visits",
            "conn_id": "clinic",
            "table": "visits",
            "primary_key": ["n"],
            "cursor": cursor,
            "schedule": {"incremental": "0 2 * * *"},
            "output": {"formats": ["parquet"]},
        }
    )


def publication(window: Window, *files: PublishedFile, taken_over: list[Covered] | None = None) -> Manifest:
    return Manifest(
        source="visits",
        window=window,
        bound=Bound(),
        dag_id="visits",
        run_id="r",
        query_hash="",
        config_hash="",
        arrow_schema="",
        columns=[],
        rows=Rows(extracted=0, published=0),
        files=list(files),
        covers=taken_over or [],
        validation={},
        versions={},
        published_at=day(9),
    )


def file(low: int | None, high: int | None, *, missing: bool = False) -> PublishedFile:
    ends = {"cursor_min": cursor_text(low), "cursor_max": cursor_text(high), "cursor_missing": missing}
    return PublishedFile(path=f"{low}-{high}", format="parquet", rows=3, bytes=1, sha256="", **ends)  # type: ignore[arg-type]


def of(window: tuple[int | None, int], *, numbered: bool = True) -> Manifest:
    start, end = place(window[0], numbered=numbered), place(window[1], numbered=numbered)
    assert end is not None
    return publication(Window(mode="incremental", start=start, end=end, read_from=start))


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([(1, 9), (3, 5)], [(1, 9)]),
        ([(3, 5), (1, 9), (4, 7)], [(1, 9)]),
        ([(1, 3), (3, 5), (7, 9)], [(1, 5), (7, 9)]),
        ([(None, 4), (2, 6)], [(None, 6)]),
        ([(2, 6), (None, 4), (8, 8)], [(None, 6)]),
    ],
)
def test_spans_within_others_cut_none_short(numbered: bool, given: list[Any], expected: list[Any]) -> None:
    def read(pairs: list[Any]) -> list[Span]:
        return [Span(place(low, numbered=numbered), place(high, numbered=numbered)) for low, high in pairs]  # type: ignore[arg-type]

    assert merged(read(given)) == read(expected)


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize(
    ("windows", "bound", "missing"),
    [
        ([(None, 3), (3, 6)], 6, []),
        ([(None, 3), (5, 6)], 6, [(3, 5)]),
        ([(3, 6)], 6, [(None, 3)]),
        ([], 6, [(None, 6)]),
        ([(None, 9), (2, 4)], 9, []),
        ([(None, 4), (2, 3), (6, 9)], 8, [(4, 6)]),
        ([(None, 4), (8, 9)], 6, [(4, 6)]),
        ([(None, 4)], 6, [(4, 6)]),
        ([(None, 6), (8, 9)], 6, []),
        ([(None, 8), (9, 12)], 6, []),
    ],
)
def test_gaps_between_publications(numbered: bool, windows: list[Any], bound: int, missing: list[Any]) -> None:
    covered = [piece for window in windows for piece in covers.by(of(window, numbered=numbered))]
    end = place(bound, numbered=numbered)
    assert end is not None
    expected = [Span(place(low, numbered=numbered), place(high, numbered=numbered)) for low, high in missing]  # type: ignore[arg-type]
    assert gaps(covered, end) == expected


def test_a_window_of_which_nothing_is_left_is_no_gap() -> None:
    heir = publication(
        Window(mode="incremental", start=6, end=9),
        taken_over=covers.of(Window(mode="range", end=6, start=3), [of((None, 3))]),
    )
    assert gaps([*covers.by(heir)], 9) == [Span(3, 6)]
    assert covers.of(Window(mode="full", end=9), [of((None, 3)), of((3, 6))]) == []
    assert covers.of(Window(mode="incremental", start=6, end=9), [of((0, 3)), of((3, 6))]) == [Covered(start=0, end=6)]
    assert covers.of(Window(mode="incremental", start=6, end=9), [of((1, 3), numbered=False)]) == []


def test_up_to_where_publications_reach() -> None:
    assert reached([of((None, 3)), of((3, 6)), of((7, 9))]) == 6
    assert reached([of((1, 3))]) is None
    assert reached([publication(Window(mode="full", end=5))]) == 5


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("_manifests/100_200.json", Span(100, 200)),
        ("visit_date=2024-01-01/-5_200-0.csv.gz", Span(-5, 200)),
        ("begin_200-0.parquet", Span(None, 200)),
        ("full_200.json", Span(None, 200)),
        ("begin_20240102T000000Z-0.parquet", Span(None, day(2))),
        ("20240101T000000Z_20240102T000000Z-0.parquet", Span(day(1), day(2))),
        ("visits.parquet", None),
        ("copy of 1_2.json", None),
    ],
)
def test_names_tell_the_window(path: str, expected: Span | None) -> None:
    assert named_span(path) == expected


@pytest.mark.parametrize("number", [0, 7, -1, -(10**38), 10**38])
def test_numbers_are_read_back_as_written(number: int) -> None:
    written = cursor_text(number)
    assert written is not None
    assert cursor_number(written) == number


def test_lost_files_by_numbers_ask_for_their_rows_and_no_others() -> None:
    lost, whole = file(-20, 30), file(31, 40)
    one = publication(Window(mode="incremental", end=50), lost, whole)
    assert spans.lost_spans(source(NUMBERED), Damage(standing=[one], files=[(one, lost)])) == [Span(-20, 31)]


@pytest.mark.parametrize(
    ("nulls", "expected"), [("first_run", [Span(None, 50)]), ("every_run", [Span(1, 4)])], ids=["once", "each run"]
)
def test_rows_without_cursor_value_are_read_from_the_beginning_or_by_every_run(
    nulls: str, expected: list[Span]
) -> None:
    damaged = [file(1, 3, missing=True), file(None, None, missing=True)]
    one = publication(Window(mode="incremental", end=50), *damaged)
    found = spans.lost_spans(source({**NUMBERED, "nulls": nulls}), Damage(files=[(one, file) for file in damaged]))
    assert found is not None
    assert merged(found) == expected


def test_what_cannot_be_told_is_everything() -> None:
    unknown = file(None, None)
    one = publication(Window(mode="incremental", end=50), unknown)
    assert spans.lost_spans(source(NUMBERED), Damage(files=[(one, unknown)])) is None
    assert spans.lost_spans(source(NUMBERED), Damage(strangers=["1_3.csv", "other.csv"])) is None


@pytest.mark.parametrize("numbered", [True, False])
def test_lost_files_are_read_again_a_day_around_their_times(numbered: bool) -> None:
    """A cursor without zone may be off by a day; a number is what it is."""
    ends = (8, 11) if numbered else (datetime(2024, 1, 8, 6), datetime(2024, 1, 11, 18))
    texts = {"cursor_min": cursor_text(ends[0]), "cursor_max": cursor_text(ends[1])}
    lost = file(None, None).model_copy(update=texts)
    end = place(20, numbered=numbered)
    assert end is not None
    one = publication(Window(mode="incremental", end=end), lost)
    expected = Span(8, 12) if numbered else Span(day(7).replace(hour=6), day(12).replace(hour=18))
    assert spans.lost_spans(source({"column": "n"}), Damage(files=[(one, lost)])) == [expected]


def again(tmp_path: Path, left: list[list[Any]] | None, numbered: bool = True) -> Storage:
    """A data folder in which a recovery has not read these spans again; None: everything."""
    texts = [[one and str(place(one, numbered=False)) for one in span] for span in left or []]
    kept = {"spans": None if left is None else left if numbered else texts}
    write_json(tmp_path / "damaged" / "visits" / spans.AGAIN, kept)
    return Storage(tmp_path)


@pytest.mark.parametrize("numbered", [True, False])
def test_what_a_recovery_has_left_is_remembered(tmp_path: Path, numbered: bool) -> None:
    assert spans.pending(Storage(tmp_path), "visits") == []
    storage = again(tmp_path, [[None, 3], [4, 6]], numbered)
    expected = [
        Span(place(low, numbered=numbered), place(high, numbered=numbered)) for low, high in ((None, 3), (4, 6))
    ]  # type: ignore[arg-type]
    assert spans.pending(storage, "visits") == expected
    assert spans.pending(again(tmp_path, None), "visits") is None


@pytest.mark.parametrize("content", ["", "{}", '{"spans": 3}', '{"spans": [[1]]}', '{"spans": [["x", "y"]]}'])
def test_what_a_recovery_has_left_and_cannot_be_understood_is_everything(tmp_path: Path, content: str) -> None:
    (again(tmp_path, []).root / "damaged" / "visits" / spans.AGAIN).write_text(content)
    assert spans.pending(Storage(tmp_path), "visits") is None


NUMBERS = source(NUMBERED)


@pytest.mark.parametrize(
    ("windows", "left", "bound", "expected"),
    [
        ([(None, 3), (3, 6)], [], 6, []),
        ([(None, 3), (3, 6)], [[1, 2]], 6, [Span(1, 2)]),
        ([(None, 3), (5, 6)], [[2, 4]], 9, [Span(2, 5), Span(6, 9)]),
        ([(None, 6)], [[4, 12], [14, 15]], 6, [Span(4, 6)]),
        ([(None, 6)], [[6, 9]], 6, []),
        ([(None, 6)], None, 6, None),
        ([(None, 6)], [], None, None),
        ([(None, 6)], [], day(6), [Span(None, day(6))]),
        ([(None, 6)], [[1, 2]], day(6), None),
    ],
    ids=[
        "whole",
        "left",
        "left and gaps",
        "over the bound",
        "behind it",
        "everything",
        "no bound",
        "other kind",
        "left, other",
    ],
)
def test_what_is_read_again(
    tmp_path: Path, windows: list[Any], left: list[Any] | None, bound: Any, expected: list[Span] | None
) -> None:
    damage = Damage(standing=[of(window) for window in windows])
    assert spans.to_read_again(again(tmp_path, left), NUMBERS, damage, bound) == expected


@pytest.mark.parametrize(("nulls", "expected"), [("first_run", [Span(None, 6)]), ("every_run", [])])
def test_lost_rows_without_cursor_value_ask_for_no_more_than_their_policy_does(
    tmp_path: Path, nulls: str, expected: list[Span]
) -> None:
    lost = file(None, None, missing=True)
    one = publication(Window(mode="full", end=6), file(1, 5), lost)
    one_source, damage = source({**NUMBERED, "nulls": nulls}), Damage(standing=[one], files=[(one, lost)])
    assert spans.to_read_again(Storage(tmp_path), one_source, damage, 6) == expected


def test_a_publication_of_which_no_file_is_left_covers_only_what_it_has_taken_over(tmp_path: Path) -> None:
    """Rows without a cursor value, in files that are gone, would say too little of what is lost."""
    empty, half = file(3, 4), [file(7, 7), file(8, 8)]
    first = publication(Window(mode="range", start=3, end=6), empty, taken_over=[Covered(start=None, end=3)])
    second = publication(Window(mode="range", start=6, end=9), *half)
    damage = Damage(standing=[first, second], files=[(first, empty), (second, half[0])])
    assert spans.to_read_again(Storage(tmp_path), NUMBERS, damage, 9) == [Span(3, 6), Span(7, 8)]


def test_a_source_that_is_only_read_in_full_is_whole_or_read_again(tmp_path: Path) -> None:
    """Its publications need not cover everything from the beginning."""
    schedule = Schedule.model_validate({"full": "0 2 * * *"})
    full, standing = NUMBERS.model_copy(update={"schedule": schedule}), [of((3, 6))]
    storage = Storage(tmp_path)
    assert spans.to_read_again(storage, full, Damage(standing=standing), 6) == []
    assert spans.to_read_again(storage, full, Damage(), 6) is None
    assert spans.to_read_again(storage, full, Damage(standing=standing, strangers=["1_3.csv"]), 6) is None
    assert spans.to_read_again(again(tmp_path, [[1, 2]]), full, Damage(standing=standing), 6) is None
