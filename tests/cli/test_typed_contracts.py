"""A value that goes between packages has a type: dictionaries of anything are counted, and each says why it is left."""

from __future__ import annotations

import re
from pathlib import Path

import archipel

SOURCE = Path(str(archipel.__file__)).parent
MOST = 15
"""How many may be left in the whole of src; a new one takes the place of an old one or is a record."""
UNTYPED = re.compile(r"\b([Dd]ict|(Mutable|Row)?Mapping)\[(str|Any), Any\]")


def untyped(source: str) -> list[int]:
    """The numbers of the lines with a dictionary of anything, from 1."""
    return [number for number, line in enumerate(source.splitlines(), 1) for _ in UNTYPED.finditer(line)]


def found() -> list[tuple[Path, int]]:
    return [
        (file, number) for file in sorted(SOURCE.rglob("*.py")) for number in untyped(file.read_text(encoding="utf-8"))
    ]


def test_few_dictionaries_of_anything_are_left() -> None:
    places = [f"{file.relative_to(SOURCE)}:{number}" for file, number in found()]
    assert len(places) <= MOST, places


def test_each_that_is_left_says_why() -> None:
    """A comment above the line or on it, or a docstring below it."""
    silent = []
    for file, number in found():
        lines = file.read_text(encoding="utf-8").splitlines()
        above, here, below = (lines[at].strip() if 0 <= at < len(lines) else "" for at in range(number - 2, number + 1))
        if not (above.startswith("#") or "  # " in here or below.startswith('"""')):
            silent.append(f"{file.relative_to(SOURCE)}:{number}")
    assert silent == []


def test_both_spellings_are_counted() -> None:
    source = "a: dict[str, Any] = {}\nb: Mapping[str, Any] | dict[str, Any]\nc: dict[str, object]\nd: Dict[str, Any]"
    assert untyped(source) == [1, 2, 2, 4]
