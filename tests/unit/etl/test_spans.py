"""What has to be read again because of damage: cursor values of both kinds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from include.etl.config import Source
from include.etl.handover import Bound, Position, Window
from include.etl.publication.files import cursor_number, cursor_text
from include.etl.records import covers
from include.etl.records.manifest import Covered, Manifest, PublishedFile, Rows
from include.etl.recovery import spans
from include.etl.recovery.damage import Damage
from include.etl.recovery.spans import Span, gaps, merged, named_span, reached

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
