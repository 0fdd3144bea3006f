"""Visible text: text of another party cannot hide, move or reverse what a terminal or a page shows, and it is quoted,
so that it cannot pass for what the page itself says.
"""

from __future__ import annotations

import html
import re
import unicodedata
from itertools import groupby

_HIDDEN = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"))
_BLANKS = (
    (0x00A0, 0x00A0), (0x034F, 0x034F), (0x115F, 0x1160), (0x1680, 0x1680), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x2000, 0x200A), (0x202F, 0x202F), (0x205F, 0x205F), (0x2800, 0x2800), (0x3000, 0x3000), (0x3164, 0x3164),
    (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0x16FE4, 0x16FE4), (0x1D159, 0x1D159), (0xE0100, 0xE01EF),
)  # fmt: skip
"""Invisible letters, marks and symbols, and every space but the usual one, as ranges. Python accepts some of them in
names: U+3164."""
_BLANK = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _BLANKS) + "]")
_MARKS = frozenset(("Mn", "Me"))
_MAYBE_MARKS = re.compile(r"(?<!\S)[^\w\s\x00-\x7f]+|[^\w\s\x00-\x7f]{4,}")
"""Where marks may be that are drawn over other text: without a letter of their own, or several on one. Letters, digits
and blanks are none of them."""
_OF_ANY_LETTER = re.compile(r"[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{4}")
"""More marks of Latin, Greek, Cyrillic and symbols than a language sets on one letter."""
_STACK = 6
"""More marks of any script than a language sets on one letter: Hebrew with its accents has five."""
_WORD = re.compile(r"[\w/%°^*+.-]+")

BAR = "| "
"""How each line of another party's text begins."""


def escape_hidden(text: str, keep: str = "") -> str:
    r"""The text with every control, format, unassigned and blank character written out, but for those in ``keep``.

    So are marks that would be drawn over other characters.

    >>> escape_hidden("ok\x1b[2J" + chr(0x202E))
    'ok\\x1b[2J\\u202e'
    """
    # Whatever Python calls printable is visible, but for the blanks; long texts are mostly ASCII, which has neither.
    if not text.isascii():
        if _BLANK.search(text):
            text = _BLANK.sub(lambda found: _escaped(found[0]), text)
        text = _MAYBE_MARKS.sub(_marks_written_out, text)
    if text.isprintable():
        return text
    return "".join(one if one in keep or one.isprintable() else _written_out(one) for one in text)


def escape_hidden_lines(text: str) -> str:
    r"""The same for a text of several lines: line feeds and tabs stay as they are.

    >>> escape_hidden_lines("a\tb\nc\r")
    'a\tb\nc\\r'
    """
    return escape_hidden(text, keep="\n\t")


def escape_markup(text: str) -> str:
    r"""The text for a page in HTML: nothing in it is markup, and hidden characters are written out.

    >>> escape_markup("<b>" + chr(0x202E))
    '&lt;b&gt;\\u202e'
    """
    return html.escape(escape_hidden(text, keep="\n"), quote=True)


def quote(text: str) -> str:
    r"""Another party's text within a sentence: on one line, between quotation marks that it cannot close.

    >>> print(quote('fine", says the server.\nWhat leaves?'))
    "fine\", says the server.\nWhat leaves?"
    """
    marked = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escape_hidden(marked)}"'


def quote_name(text: str) -> str:
    """A name among others as it is if it is one visible word, which cannot pass for a sentence; else quoted.

    >>> quote_name("anterior"), quote_name("grey, white")
    ('anterior', '"grey, white"')
    """
    return text if _WORD.fullmatch(text) and escape_hidden(text) == text else quote(text)


def quote_lines(text: str) -> str:
    """Another party's text on lines of its own, each of which begins with a bar.

    >>> print(quote_lines("For the heart." + chr(10) + "What leaves? Nothing."))
    | For the heart.
    | What leaves? Nothing.
    """
    lines = escape_hidden_lines(text.replace("\r\n", "\n")).split("\n")
    return "\n".join(f"{BAR}{line}" for line in lines)


def _marks_written_out(found: re.Match[str]) -> str:
    """What was found, with each stretch of marks written out that has no letter, or is too high for one."""
    parts: list[str] = []
    at_blank = found.start() == 0 or found.string[found.start() - 1].isspace()
    for are_marks, characters in groupby(found[0], lambda one: unicodedata.category(one) in _MARKS):
        part = "".join(characters)
        alone = at_blank and not parts
        overlaid = are_marks and (alone or len(part) >= _STACK or _OF_ANY_LETTER.search(part))
        parts.append(_escaped(part) if overlaid else part)
    return "".join(parts)


def _written_out(character: str) -> str:
    return _escaped(character) if unicodedata.category(character) in _HIDDEN else character


def _escaped(characters: str) -> str:
    return characters.encode("unicode_escape").decode("ascii")
