"""Which files this process opens: what is known already must not be read again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_opened: list[str] | None = None


def _note_opens(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], (str, bytes)):
        _opened.append(os.path.realpath(os.fsdecode(arguments[0])))


@cache
def _listen() -> None:
    """Once, and not before a test asks: the hook stays for the life of a process, and slows each of its opens."""
    sys.addaudithook(_note_opens)


@contextmanager
def opens_under(root: Path) -> Iterator[set[str]]:
    """Places of the files under ``root`` that this process opens meanwhile; folders do not count."""
    global _opened
    _listen()
    places: set[str] = set()
    _opened = []
    try:
        yield places
    finally:
        seen, _opened = _opened, None
        real = os.path.realpath(root)
        places |= {os.path.relpath(one, real) for one in seen if one.startswith(real + os.sep) and Path(one).is_file()}
