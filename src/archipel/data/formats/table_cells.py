"""Which texts a table holds, as far as its beginning shows: whether it names the files or the subjects beside it."""

from __future__ import annotations

import re
from pathlib import Path

TABLES = (".csv", ".tsv")
"""Endings of tables that stand beside volumes and pictures."""
_LOOKED_AT = 1 << 20
"""Bytes of a table that are looked at before anybody says that it is the one."""
_BETWEEN = re.compile(r'[,;\t\r\n"]+')
_FOLDER = re.compile(r"^.*[/\\]")
_ENDING = re.compile(r"(\.[A-Za-z]+){1,2}$")


def cells_in(path: Path) -> frozenset[str]:
    """The texts between the signs of a table, and of those that are file names the names without folder and ending;
    empty for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            beginning = file.read(_LOOKED_AT).decode("utf-8", "replace")
    except OSError:
        return frozenset()
    cells = {cell.strip() for cell in _BETWEEN.split(beginning)}
    return frozenset(cells | {_ENDING.sub("", _FOLDER.sub("", cell)) for cell in cells})
