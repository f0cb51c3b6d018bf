"""Refuses SQL whose text a server cuts into words otherwise than sqlglot does: what is judged would not run."""

from __future__ import annotations

import re
from collections.abc import Iterator

import sqlglot
from sqlglot.tokenizer_core import Token, TokenType

_BLANK, _LINE_END = r"[ \t\r\n\f\v]", r"(?=\r?\n|\Z)"
_BLOCK = r"/\*(?![Mm]?!)(?:(?!/\*|\*/).)*\*/"
_SKIPPED = {
    "mysql": rf"(?:{_BLANK}|--(?:[ \t][^\r\n]*)?{_LINE_END}|#[^\r\n]*{_LINE_END}|{_BLOCK})*",
    "": rf"(?:{_BLANK}|--[^\r\n]*{_LINE_END}|{_BLOCK})*",
}
"""What stands between two words: blanks and comments, of a form that all versions of a server skip too."""
_SAID = {
    r"/\*[Mm]?!": "a comment that MySQL executes (/*! ... */); allowed: plain comments",
    r"/\*.*/\*": "a comment within a comment; allowed: plain comments",
}
_QUOTED = {TokenType.IDENTIFIER, *(kind for kind in TokenType if kind.name.endswith("STRING"))}


def unlike_the_server(sql: str, dialect: str) -> Iterator[str]:
    """What sqlglot and the server read differently; of text that sqlglot has read without an error."""
    if re.search(r"[\x00-\x08\x0e-\x1f\x7f]", sql):
        yield "a control character; allowed: printable characters, tabs and line ends"
    words = [token for token in sqlglot.tokenize(sql, read=dialect) if token.token_type is not TokenType.HINT]
    starts, ends = [token.start for token in words], [token.end + 1 for token in words]
    for start, end in zip([0, *ends], [*starts, len(sql)], strict=True):
        if not re.fullmatch(_SKIPPED.get(dialect, _SKIPPED[""]), sql[start:end], re.DOTALL):
            yield _skipped(sql[start:end])
    for word in words:
        yield from _word(word, sql, dialect)


def _skipped(text: str) -> str:
    for pattern, said in _SAID.items():
        if re.search(pattern, text, re.DOTALL):
            return said
    return "a comment or a blank of a form that is none to the server; allowed: plain comments, spaces and line ends"


def _word(word: Token, sql: str, dialect: str) -> Iterator[str]:
    """What begins here and is something else to the server; `word` may be a part of it only."""
    kind, before, after = word.token_type, sql[: word.start], sql[word.start :]
    if dialect == "mysql" and kind is TokenType.DASH and after.startswith("--"):
        yield "-- without a space after it, which is no comment to MySQL; add a space"
    if dialect == "postgres" and (kind is TokenType.UNICODE_STRING or re.match(r"""&["']""", after)):
        yield "& before a quote, which may hide characters; allowed: the characters themselves, or a space between"
    if dialect == "oracle" and kind not in _QUOTED and "@" in sql[word.start : word.end + 1]:
        yield "@, which reaches another database; allowed: what is in this one"
    if dialect == "oracle" and kind is TokenType.STRING and re.search(r"\bn?q\Z", before, re.IGNORECASE):
        yield "q'...' with a delimiter that is not known; allowed: others, as in q'[...]'"
