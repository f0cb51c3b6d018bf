"""Every value stays the same number in its new type, or there is an error: over precisions, scales and arrays."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from include.etl import casts

REFUSED = (pa.ArrowException, ValueError, TypeError, ArithmeticError)
WIDE = Context(prec=400)
SPECIAL = ["7.5", "-266409179.8324", "0", "-0.00", "0E-50", "0E+50", "1E-40", "1E+36", "9" * 38, "9" * 39, "9" * 60]


def kinds(most: int = 38) -> some.SearchStrategy[Any]:
    """Decimals of every precision and scale."""
    return some.integers(1, most).flatmap(lambda digits: some.integers(0, digits).map(lambda scale: (digits, scale)))


@some.composite
def numbers(draw: some.DrawFn) -> Decimal:
    """Numbers of few and of many digits, on either side of the decimal point."""
    digits = draw(some.integers(0, 10 ** draw(some.integers(1, 40))))
    return Decimal((draw(some.booleans()), tuple(map(int, str(digits))), draw(some.integers(-45, 5))))


def fits(number: Decimal, digits: int, scale: int) -> bool:
    """By Python alone: whether decimal(digits, scale) has this number."""
    unscaled = number.scaleb(scale, WIDE)
    return bool(unscaled == unscaled.to_integral_value(context=WIDE) and WIDE.abs(unscaled) < Decimal(10) ** digits)


def check(make: Any, number: Decimal, digits: int, scale: int) -> None:
    """What `make` gives is the number, where the type has it, and otherwise an error."""
    if fits(number, digits, scale):
        (found,) = make().to_pylist()
        assert found == number
    else:
        with pytest.raises(REFUSED):
            make()


@settings(max_examples=400, deadline=None)
@given(numbers(), kinds(), some.integers(0, 36))
@example(Decimal("7.5"), (38, 38), 0)
@example(Decimal("-266409179.8324"), (38, 34), 0)
def test_decimals_become_decimals(number: Decimal, kind: tuple[int, int], room: int) -> None:
    wanted = pa.decimal128(*kind)
    scale = max(0, -int(number.normalize(WIDE).as_tuple().exponent))
    for source in (
        pa.decimal128(min(38, max(scale, 1) + room), scale) if scale <= 38 else None,
        pa.decimal256(76, scale),
    ):
        if source is None or not fits(number, source.precision, scale):
            continue
        values = pa.array([number.normalize(WIDE)], source)
        check(lambda: casts.cast(values, wanted), number, *kind)  # noqa: B023 - called at once
        check(lambda: casts.cast(pa.chunked_array([values]), wanted), number, *kind)  # noqa: B023


@settings(max_examples=400, deadline=None)
@given(some.one_of(numbers(), some.sampled_from(SPECIAL).map(Decimal)), kinds(), some.booleans(), some.booleans())
def test_text_becomes_decimals(number: Decimal, kind: tuple[int, int], plain: bool, large: bool) -> None:
    text = pa.array([f"{number:f}" if plain else str(number)], pa.large_string() if large else pa.string())
    check(lambda: casts.cast(text, pa.decimal128(*kind)), number, *kind)


@settings(max_examples=300, deadline=None)
@given(kinds(), some.integers(0, 10**40), some.booleans())
def test_text_as_servers_print_it_becomes_decimals(kind: tuple[int, int], unscaled: int, negative: bool) -> None:
    """With exactly the decimals that the type has; also with a digit too many before them."""
    digits, scale = kind
    for number in (unscaled % 10**digits, unscaled % 10 ** (digits + 1), unscaled):
        value = Decimal((int(negative), tuple(map(int, str(number))), -scale))
        check(lambda: casts.cast(pa.array([f"{value:f}"]), pa.decimal128(*kind)), value, digits, scale)  # noqa: B023


@settings(max_examples=500, deadline=None)
@given(some.one_of(numbers(), some.sampled_from(SPECIAL).map(Decimal)), kinds())
def test_python_s_numbers_become_decimals(number: Decimal, kind: tuple[int, int]) -> None:
    check(lambda: casts.decimals([number], pa.decimal128(*kind)), number, *kind)
    if number == int(number):
        check(lambda: casts.decimals([int(number)], pa.decimal128(*kind)), number, *kind)


INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]


@settings(max_examples=300, deadline=None)
@given(some.sampled_from(INTEGERS), some.data(), kinds())
def test_integers_become_decimals_and_back(type_: pa.DataType, data: some.DataObject, kind: tuple[int, int]) -> None:
    signed = pa.types.is_signed_integer(type_)
    bits = type_.bit_width - signed
    number = data.draw(some.integers(-(2**bits) if signed else 0, 2**bits - 1))
    check(lambda: casts.cast(pa.array([number], type_), pa.decimal128(*kind)), Decimal(number), *kind)
    exact = pa.array([Decimal(number)], pa.decimal128(38, 4))
    for other in INTEGERS:
        try:
            (found,) = casts.cast(exact, other).to_pylist()
        except pa.ArrowInvalid:
            found = None
        assert found in (number, None)
        assert found == number or other != type_


@pytest.mark.parametrize(
    "text", ["", " 7", "7 ", "1_0", "٧", "NaN", "Infinity", "0x7", "7,5", "--7", ".", "1e", "1e99999"]
)
@pytest.mark.parametrize("kind", [pa.decimal128(3, 1), pa.decimal128(38, 38)])
def test_what_is_no_number_is_refused(text: str, kind: pa.DataType) -> None:
    with pytest.raises(REFUSED):
        casts.cast(pa.array([text]), kind)


def test_nulls_and_nothing_stay() -> None:
    for kind in (pa.decimal128(38, 38), pa.int64(), pa.string(), pa.float32()):
        for values in (pa.array([None, None], pa.decimal128(9, 2)), pa.array([None, None], pa.string())):
            if not (pa.types.is_decimal(values.type) and pa.types.is_floating(kind)):
                assert casts.cast(values, kind).null_count == 2
                assert len(casts.cast(values.slice(2), kind)) == 0


def test_a_slice_is_cast_by_itself() -> None:
    """Its buffer holds the others' bytes too."""
    text = pa.array(["9" * 39, "1e3", "7.5", None])
    assert casts.cast(text.slice(2), pa.decimal128(38, 2)).to_pylist() == [Decimal("7.50"), None]


@pytest.mark.parametrize("number", [0.1, float("inf"), float("nan"), 7.5])
def test_a_float_is_no_decimal(number: float) -> None:
    with pytest.raises(REFUSED):
        casts.cast(pa.array([number]), pa.decimal128(38, 2))
    with pytest.raises(REFUSED):
        casts.decimals([number], pa.decimal128(38, 2))  # type: ignore[list-item]
    with pytest.raises(REFUSED):
        casts.cast(pa.array([Decimal("7.5")]), pa.float64())


def test_floats_of_another_width_are_the_same_floats() -> None:
    exact = [1.5, float("inf"), -0.0, None]
    assert casts.cast(pa.array(exact), pa.float32()).to_pylist() == exact
    assert str(casts.cast(pa.array([float("nan")]), pa.float32())[0]) == "nan"
    for lost in (0.1, 1e300, 1e-300):
        with pytest.raises(REFUSED):
            casts.cast(pa.array([lost]), pa.float32())


def test_rows_are_cast_by_name() -> None:
    schema = pa.schema([("id", pa.int64()), ("fee", pa.decimal128(10, 2))])
    rows = pa.table({"id": pa.array([1], pa.int32()), "fee": pa.array([Decimal("7.5")])})
    assert casts.cast_rows(rows, schema).schema == schema
    assert casts.cast_rows(rows.to_batches()[0], schema).to_pylist() == [{"id": 1, "fee": Decimal("7.50")}]
    with pytest.raises(ValueError, match="are not"):
        casts.cast_rows(rows.select(["fee", "id"]), schema)
