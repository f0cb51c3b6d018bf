"""The SQL that the SQL Server reader writes itself: names, values, and queries whose columns are converted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from sqlglot.dialects.dialect import Dialect
from sqlglot.tokenizer_core import Token, TokenType

from include.etl.engines.base import Value

MAX_DIGITS = 38


def quoted(name: str) -> str:
    """A column name as T-SQL quotes it."""
    return "[" + name.replace("]", "]]") + "]"


def converted(sql: str, selected: Sequence[str], where: str = "") -> str:
    """A SELECT of these expressions over the query, whose columns they call by their quoted names."""
    before, main, behind = parts(sql)
    met = f"where {where} " if where else ""
    return f"{before}select {', '.join(selected)} from (\n{main}\n) as _q {met}{behind}".rstrip()


def with_forms(sql: str, forms: Mapping[str, str | None]) -> str:
    """The query with these forms of its columns; as it stands where no column has one."""
    if not any(forms.values()):
        return sql
    return converted(sql, [f"{form or '_q.' + quoted(name)} as {quoted(name)}" for name, form in forms.items()])


def parts(sql: str) -> tuple[str, str, str]:
    """What stays before, inside of and behind the parentheses when the query becomes part of another one.

    T-SQL takes neither WITH nor OPTION inside of parentheses, and ORDER BY only beside TOP or OFFSET.
    """
    tokens = [token for token, depth in _with_depth(Dialect.get_or_raise("tsql").tokenize(sql)) if depth == 0]
    start = _start_of_select(tokens)
    option = next((token.start for token in tokens if token.token_type is TokenType.OPTION), len(sql))
    main = sql[start:option].rstrip()
    kinds = {token.token_type for token in tokens}
    if TokenType.ORDER_BY in kinds and not kinds & {TokenType.OFFSET, TokenType.TOP}:
        main += "\noffset 0 rows"
    return sql[:start], main, sql[option:]


def _with_depth(tokens: Sequence[Token]) -> list[tuple[Token, int]]:
    depth, seen = 0, []
    for token in tokens:
        depth -= token.token_type is TokenType.R_PAREN
        seen.append((token, depth))
        depth += token.token_type is TokenType.L_PAREN
    return seen


def _start_of_select(tokens: Sequence[Token]) -> int:
    """Where the SELECT begins behind common table expressions; 0 where there are none."""
    if not tokens or tokens[0].token_type is not TokenType.WITH:
        return 0
    return next((token.start for token in tokens if token.token_type is TokenType.SELECT), 0)


def describing(sql: str) -> str:
    """The call that describes the query's result; a procedure takes a literal, or a variable, and no expression."""
    whole = text(sql)
    if whole.startswith("N"):
        return f"exec sp_describe_first_result_set @tsql = {whole}"
    return f"declare @query nvarchar(max) = {whole}; exec sp_describe_first_result_set @tsql = @query"


def literal(value: Value) -> str:
    """The value as T-SQL with its exact type: both drivers send it unchanged, which their own binding does not.

    Raises ValueError for what SQL Server cannot hold (NaN, infinities, surrogates, more than 38 digits).
    """
    match value:
        case None:
            return "null"
        case datetime() if value.tzinfo:
            return f"cast('{value.astimezone(UTC).isoformat()}' as datetimeoffset(7))"
        case datetime():
            return f"cast('{value.isoformat()}' as datetime2(7))"
        case date():
            return f"cast('{value.isoformat()}' as date)"
        case bytes():
            return f"0x{value.hex()}"
        case str():
            return text(value)
        case bool():
            return f"cast({value:d} as bit)"
        case _:
            return _number(value)


def text(value: str) -> str:
    """Unicode text; a backslash before a line's end would continue the line, and one driver stops at a zero byte."""
    value.encode("utf-16-le")
    plain = "N'" + value.replace("'", "''") + "'"
    whole = plain.replace("\0", "' + nchar(0) + N'").replace("\\\n", "\\' + N'\n").replace("\\\r", "\\' + N'\r")
    return plain if whole == plain else f"(cast(N'' as nvarchar(max)) + {whole})"


def _number(value: int | float | Decimal) -> str:
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    if isinstance(value, float):
        written = f"{value:.16e}"
    else:
        written = f"{value:f}" if isinstance(value, Decimal) else f"{value:d}"
        if len(written.lstrip("-").replace(".", "").lstrip("0")) > MAX_DIGITS:
            raise ValueError("more digits than a decimal holds")
        if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
            written = f"cast({written} as bigint)"
    return f"({written})" if value < 0 else written
