"""Visible text: nothing that a stranger wrote can hide, move or reverse what a terminal or a page shows."""

from __future__ import annotations

import unicodedata

_HIDDEN = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"))


def escape_hidden(text: str, keep: str = "") -> str:
    r"""The text with every control, format and unassigned character written out, but for those in ``keep``.

    >>> escape_hidden("ok\x1b[2J" + chr(0x202E))
    'ok\\x1b[2J\\u202e'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if one in keep else _written_out(one) for one in text)


def _written_out(character: str) -> str:
    hidden = unicodedata.category(character) in _HIDDEN
    return character.encode("unicode_escape").decode("ascii") if hidden else character
