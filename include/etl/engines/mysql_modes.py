"""SQL modes with which a query means something else than in the reader's own sessions, which have none of them.

Who wrote a query tried it on the server, in the server's own mode. One that means the same with it and without is read;
any other is refused, as the reader cannot know which meaning was meant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from sqlglot.tokenizer_core import Token, TokenType

from include.etl.engines.base import Engine
from include.etl.engines.binding import tokenized
from include.etl.errors import ConfigurationError


class Difference(NamedTuple):
    """What a mode reads differently, and how to write it so that it means the same with the mode and without."""

    mode: str
    what: str
    instead: str
    holds: Callable[[str, Sequence[Token]], bool]
    """Whether the SQL, as these tokens, has it."""


def refuse_other_meaning(sql: str, modes: Collection[str], engine: Engine) -> None:
    """Raise ConfigurationError where the server's own SQL modes give the query another meaning than the session's."""
    differences = [one for one in DIFFERENCES if one.mode in modes]
    tokens = tokenized(sql, engine.dialect) if differences else []
    if found := [one for one in differences if one.holds(sql, tokens)]:
        said = "; ".join(f"with {one.mode}, {one.what}: write {one.instead}" for one in found)
        raise ConfigurationError(
            f"{engine}: the query means something else in the server's own sql_mode than in the mode in which sources "
            f"are read ({said}). So written, it means the same in both"
        )


def _double_quotes(sql: str, tokens: Sequence[Token]) -> bool:
    """A column's alias after AS is the same name in both modes, but for a backslash in it."""
    for before, token in pairwise([tokens[0], *tokens]):
        text = _text(sql, token)
        alias = before.token_type is TokenType.ALIAS and "\\" not in text
        if text.lower().startswith(('"', 'n"')) and not alias:
            return True
    return False


def _backslashes(sql: str, tokens: Sequence[Token]) -> bool:
    return any("\\" in _text(sql, token) for token in tokens if token.token_type in STRINGS)


def _pipes(_: str, tokens: Sequence[Token]) -> bool:
    return any(token.token_type is TokenType.DPIPE for token in tokens)


def _empty_strings(_: str, tokens: Sequence[Token]) -> bool:
    return any(not token.text for token in tokens if token.token_type in STRINGS)


def _loose_not(_: str, tokens: Sequence[Token]) -> bool:
    """Whether an operator follows what stands after NOT, which one of the modes takes for a part of that."""
    for at, (before, token) in enumerate(pairwise([tokens[0], *tokens])):
        if token.text.upper() == "NOT" and before.token_type is not TokenType.IS:
            first, *others = [*_operand(tokens[at + 1 :]), token]
            if first.token_type not in NEGATED and any(one.token_type in OPERATORS for one in others[:-1]):
                return True
    return False


def _operand(tokens: Sequence[Token]) -> Iterator[Token]:
    """Those up to the next AND, comma or clause; nothing of what stands in brackets, or in a CASE."""
    depth = 0
    for token in tokens:
        depth -= token.token_type in CLOSING
        if depth < 0 or (not depth and token.token_type in ENDS):
            return
        if not depth:
            yield token
        depth += token.token_type in OPENING


def _spaced_functions(_: str, tokens: Sequence[Token]) -> bool:
    pairs = pairwise(tokens)
    return any(
        one.text.lower() in SPACED and after.token_type is TokenType.L_PAREN and after.start > one.end + 1
        for one, after in pairs
    )


def _functions_of_oracle(_: str, tokens: Sequence[Token]) -> bool:
    pairs = pairwise(tokens)
    return any(one.text.lower() in OF_ORACLE and after.token_type is TokenType.L_PAREN for one, after in pairs)


def _text(sql: str, token: Token) -> str:
    return sql[token.start : token.end + 1]


T = TokenType
STRINGS = {T.STRING, T.NATIONAL_STRING}
NEGATED = {T.IN, T.LIKE, T.RLIKE, T.BETWEEN}
"""What follows a NOT that stands between two operands."""
OPERATORS = NEGATED | {T.EQ, T.NEQ, T.LT, T.LTE, T.GT, T.GTE, T.NULLSAFE_EQ, T.IS, T.NOT, T.MEMBER_OF}
OPERATORS |= {T.PLUS, T.DASH, T.STAR, T.SLASH, T.DIV, T.MOD, T.AMP, T.PIPE, T.CARET}
ENDS = {T.AND, T.OR, T.XOR, T.DAMP, T.DPIPE, T.COMMA, T.WHEN, T.THEN, T.ELSE, T.ALIAS, T.SEMICOLON}
ENDS |= {T.FROM, T.WHERE, T.GROUP_BY, T.HAVING, T.WINDOW, T.ORDER_BY, T.LIMIT, T.UNION, T.EXCEPT, T.INTERSECT}
ENDS |= {T.JOIN, T.LEFT, T.RIGHT, T.INNER, T.CROSS, T.NATURAL, T.STRAIGHT_JOIN}
OPENING, CLOSING = {T.L_PAREN, T.CASE}, {T.R_PAREN, T.END}
SPACED = {
    *("adddate", "bit_and", "bit_or", "bit_xor", "cast", "count", "curdate", "curtime", "date_add", "date_sub"),
    *("extract", "group_concat", "json_arrayagg", "json_objectagg", "max", "mid", "min", "now", "position"),
    *("session_user", "st_collect", "std", "stddev", "stddev_pop", "stddev_samp", "subdate", "substr", "substring"),
    *("sum", "sysdate", "system_user", "trim", "var_pop", "var_samp", "variance"),
}
"""Functions that both servers know as such only where the bracket follows at once."""
OF_ORACLE = {
    *("concat", "decode", "length", "lpad", "ltrim", "mid", "replace", "rpad", "rtrim", "substr", "substring", "trim")
}
"""Functions that MariaDB's mode ORACLE has others for, with other answers for what is empty, for NULL, or at 0."""

DIFFERENCES = [
    Difference("ANSI_QUOTES", 'a "..." is a name and not a text', "`...` for a name, '...' for a text", _double_quotes),
    Difference("PIPES_AS_CONCAT", "|| joins texts and is not OR", "concat() or OR", _pipes),
    Difference(
        "NO_BACKSLASH_ESCAPES", r"a \ stands for itself", "char(92 using utf8mb4) for it, '' for a '", _backslashes
    ),
    Difference("HIGH_NOT_PRECEDENCE", "NOT a = b is (NOT a) = b", "the brackets that are meant", _loose_not),
    Difference("IGNORE_SPACE", "a space may follow a function's name", "none before the bracket", _spaced_functions),
    Difference("EMPTY_STRING_IS_NULL", "'' is NULL", "NULL, or trim(' ') for an empty text", _empty_strings),
    Difference(
        "ORACLE",
        f"{', '.join(sorted(OF_ORACLE))} give other values",
        "char_length(), octet_length(), left(), insert(), regexp_replace(), concat_ws()",
        _functions_of_oracle,
    ),
]
"""Tried on MariaDB and MySQL. A server tells combined modes, such as ANSI, together with those they stand for."""
