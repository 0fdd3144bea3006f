"""What holds for every test: it leaves the process as it found it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def file_mode_mask() -> Iterator[None]:
    """A command called within this process closes the mask of files for itself; the next test has the old one again."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
