"""The syntax trees of source files, each parsed once for all of the tests that read code."""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path


@cache
def tree_of(path: Path) -> ast.Module:
    """The module in a file; it is only read."""
    # A tree is thousands of objects that stay and refer to no others: the collector need not walk through them.
    gc.disable()
    try:
        return ast.parse(path.read_text("utf-8"))
    finally:
        gc.enable()
