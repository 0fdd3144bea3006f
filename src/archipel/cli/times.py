"""Times as people read them, in one form wherever a command prints one: ``2026-11-21 19:48:32 UTC``."""

from __future__ import annotations

import re

_UTC = re.compile(r"\b(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:\+00:00|Z)(?!\w)")


def readable(text: str) -> str:
    """The text with each ISO time of UTC in it written for people; everything else stays.

    >>> readable("since 2026-11-21T19:48:32.120000+00:00")
    'since 2026-11-21 19:48:32 UTC'
    """
    return _UTC.sub(r"\1 \2 UTC", text)
