"""Spool files that a closed round leaves to the next one, which writes its updates over them.

A new file takes new pages of memory and new blocks for each byte; in a virtual machine that costs several times what
writing over old ones does. A spare file is one that nothing writes to or reads any more. There are at most as many as
the experiment has sites, and none once it is over, when the disk is full, or when the server starts.
"""

from __future__ import annotations

import secrets
from pathlib import Path

SMALLEST_SPARE = 4 << 20
"""Bytes of the smallest file that is kept: below it a new file costs little."""
_END = ".spare"


def is_spare(path: Path) -> bool:
    """Whether a file of the spool is a spare file."""
    return path.name.endswith(_END)


def keep_spare(path: Path, experiment: str) -> bool:
    """Make a whole spool file a spare file of its experiment; False if it is too small."""
    try:
        if path.stat().st_size < SMALLEST_SPARE:
            return False
        path.rename(path.with_name(f"{experiment}.{secrets.token_hex(8)}{_END}"))
    except FileNotFoundError:
        # It was dropped meanwhile, because it did not come to count.
        return False
    return True


def take_spare(place: Path) -> bool:
    """Give a spare file of the same experiment to ``place``; whether there was one.

    It keeps its old bytes: what of them is written over is for the caller to know.
    """
    for spare in place.parent.glob(f"{place.name.split('.')[0]}.*{_END}"):
        try:
            spare.rename(place)
        except FileNotFoundError:
            # Another upload took it.
            continue
        return True
    return False


def drop_spares(spool: Path) -> None:
    """Delete all spare files: the disk is needed for something else."""
    for spare in spool.glob(f"*{_END}"):
        spare.unlink(missing_ok=True)
