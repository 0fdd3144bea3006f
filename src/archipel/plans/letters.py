"""Which characters a plan may have where, so that what a person reads is what Python runs.

Python takes letters of every script for names, and some of them look like others: a Cyrillic letter in a Latin name is
another name, and Python reads the full-width ``ｏｓ`` as ``os`` (NFKC). So names and everything else that is code are
ASCII. Strings and comments have any letters, but none of the controls that change the direction in which a line is
shown.
"""

from __future__ import annotations

import io
import tokenize
import unicodedata
from collections.abc import Iterator

from archipel.vocabulary.visible import escape_hidden

_DIRECTIONS = frozenset((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
"""The bidirectional format characters of UAX #9."""
_TEXT = frozenset(("COMMENT", "FSTRING_MIDDLE", "STRING"))
"""The tokens that are text, not code. Python 3.11 has an f-string as one STRING, later versions in pieces."""


def refused_character(text: str) -> tuple[str, str] | None:
    """The first character of a plan's text that it may not have there, as cause and remedy; None without one.

    Raises SyntaxError when the text cannot be split into tokens.
    """
    if text.isascii():
        return None
    for line, written in enumerate(text.split("\n"), start=1):
        for one in written:
            if ord(one) in _DIRECTIONS:
                return f"has {_named(one)}, which changes the direction of text, in line {line}", "remove it"
    for line, code in _code(text):
        for one in code:
            if not one.isascii():
                cause = f"has {_named(one)} outside of strings and comments in line {line}"
                return cause, "use ASCII in names and in all other code"
    return None


def _named(character: str) -> str:
    name = unicodedata.name(character, "without a name")
    return f"'{escape_hidden(character)}' ({name}, U+{ord(character):04X})"


def _code(text: str) -> Iterator[tuple[int, str]]:
    """The pieces of a text that are code, each with the number of the line in which it begins."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.string.isascii():
                continue
            if tokenize.tok_name[token.type] not in _TEXT:
                yield token.start[0], token.string
            elif tokenize.tok_name[token.type] == "STRING":
                before, code = _expressions(token.string)
                yield token.start[0] + before.count("\n"), code
    except tokenize.TokenError as error:
        message, (line, _) = error.args
        raise SyntaxError(message, ("", line, None, None)) from error


def _expressions(string: str) -> tuple[str, str]:
    """An f-string up to the first expression that may hold characters outside ASCII, and from there on what may.

    Braces are counted as Python 3.11 counts them. A quote inside of an expression ends the counting, for a brace after
    it may be text: all that follows then counts as code.
    """
    prefix = string[: min(string.index(quote) for quote in "'\"" if quote in string)]
    if "f" not in prefix.lower():
        return string, ""
    depth, place, code, first = 0, len(prefix), [], len(string)
    while place < len(string):
        one, two = string[place], string[place : place + 2]
        if depth == 0 and two in ("{{", "}}"):
            place += 2
            continue
        if depth and one in "'\"":
            first = min(first, place)
            code.append(string[place:])
            break
        depth += (one == "{") - (one == "}")
        if depth and not one.isascii():
            first = min(first, place)
            code.append(one)
        place += 1
    return string[:first], "".join(code)
