"""Python's collector of cycles, kept away from what a whole simulation keeps.

A full collection looks at every object of the process. With torch and a hundred sites these are more than a million,
nearly all of which stay to the end.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def settled_objects() -> Iterator[None]:
    """Leave what there is now out of collections in the block, unless the program itself did so before."""
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
