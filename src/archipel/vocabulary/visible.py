"""Visible text: text of another party cannot hide, move or reverse what a terminal or a page shows."""

from __future__ import annotations

import re
import unicodedata

_HIDDEN = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"))
_BLANKS = (
    (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800), (0x3164, 0x3164),
    (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0x16FE4, 0x16FE4), (0x1D159, 0x1D159), (0xE0100, 0xE01EF),
)  # fmt: skip
"""Invisible letters, marks and symbols, as ranges. Python accepts some of them in names: U+3164."""
_BLANK = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _BLANKS) + "]")


def escape_hidden(text: str, keep: str = "") -> str:
    r"""The text with every control, format, unassigned and blank character written out, but for those in ``keep``.

    >>> escape_hidden("ok\x1b[2J" + chr(0x202E))
    'ok\\x1b[2J\\u202e'
    """
    # Whatever Python calls printable is visible, but for the blanks; long texts are mostly that.
    if _BLANK.search(text):
        text = _BLANK.sub(lambda found: _escaped(found[0]), text)
    if text.isprintable():
        return text
    return "".join(one if one in keep or one.isprintable() else _written_out(one) for one in text)


def escape_hidden_lines(text: str) -> str:
    r"""The same for a text of several lines: line feeds and tabs stay as they are.

    >>> escape_hidden_lines("a\tb\nc\r")
    'a\tb\nc\\r'
    """
    return escape_hidden(text, keep="\n\t")


def _written_out(character: str) -> str:
    return _escaped(character) if unicodedata.category(character) in _HIDDEN else character


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
