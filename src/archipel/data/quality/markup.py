"""Markup: text that comes from files made safe for a page, and the few shapes a page is built of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from archipel.vocabulary.visible import escape_hidden

_PLAIN = re.compile(r"[ !#-%(-;=?-~]*")
"""Visible ASCII in which nothing is markup."""


class Html(str):
    """Markup; any other string is text and is escaped."""

    __slots__ = ()


def text(value: object) -> Html:
    r"""Any value as text: nothing in it is markup, and characters that hide or reverse text are written out.

    >>> text("<b>" + chr(0x202E))
    '&lt;b&gt;\\u202e'
    """
    if isinstance(value, Html):
        return value
    plain = str(value)
    # Nearly every cell of a page: to look once is faster than to look for each of what would be replaced.
    return Html(plain if _PLAIN.fullmatch(plain) else escape(escape_hidden(plain), quote=True))


def joined(parts: Iterable[object], between: str = "") -> Html:
    """Parts one after the other, each escaped unless it is markup."""
    return Html(between.join(map(text, parts)))


def element(tag: str, *content: object, kind: str = "", **attributes: str) -> Html:
    """One element; ``kind`` is its class."""
    inside = f' class="{text(kind)}"' if kind else ""
    for name, value in attributes.items():
        inside += f' {name.replace("_", "-")}="{text(value)}"'
    return Html(f"<{tag}{inside}>{''.join(map(text, content))}</{tag}>")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], kind: str = "") -> Html:
    """A table that scrolls by itself where it is too wide."""
    top = element("tr", *(element("th", cell, scope="col") for cell in head))
    body = joined(element("tr", *(element("td", cell) for cell in row)) for row in rows)
    return element(
        "div", element("table", element("thead", top), element("tbody", body), kind=kind or "plain"), kind="wide"
    )


def picture(data: str, kind: str, alt: str) -> Html:
    """A PNG in base64."""
    return Html(f'<img class="{kind}" alt="{text(alt)}" src="data:image/png;base64,{text(data)}">')


def swatch(colour: str, words: str) -> Html:
    """A colour and what it stands for."""
    return element("span", element("span", kind="swatch", style=f"background:{colour}"), words)
