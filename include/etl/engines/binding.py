"""Turns the `:name` placeholders of a query into literals, seeing the SQL as tokens and not as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from include.etl.engines.base import Query, Value
from include.etl.errors import ConfigurationError

NAME = re.compile(r"\w+")


def bind(query: Query, dialect: str, literal: Callable[[Value], str]) -> str:
    """The SQL with each `:name` of `query.params` written by `literal`, and without a closing semicolon.

    Strings, comments, quoted names and `::casts` are left as they are, and so is a `:name` that is no parameter.
    """
    pieces: list[str] = []
    at = 0
    tokens = tokenized(query.sql, dialect)
    for start, name in _placeholders(query, tokens):
        pieces += [query.sql[at:start], literal(query.params[name])]
        at = start + 1 + len(name)
    closed = bool(tokens) and tokens[-1].token_type is TokenType.SEMICOLON
    return "".join([*pieces, query.sql[at : tokens[-1].start if closed else None]])


def _placeholders(query: Query, tokens: list[Token]) -> Iterator[tuple[int, str]]:
    for token in tokens:
        if token.token_type is TokenType.COLON:
            name = NAME.match(query.sql, token.end + 1)
            if name and name[0] in query.params:
                yield token.start, name[0]


def tokenized(sql: str, dialect: str) -> list[Token]:
    """The SQL's words; raises ConfigurationError where a string, name or comment is not closed."""
    try:
        return Dialect.get_or_raise(dialect).tokenize(sql)
    except TokenError:
        raise ConfigurationError(f"the query is not {dialect} SQL: a string, name or comment is not closed") from None
