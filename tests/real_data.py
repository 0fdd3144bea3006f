"""Real, openly licensed data that some tests read: it lies beside the repository, or where ARCHIPEL_DATA says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = Path(os.environ.get("ARCHIPEL_DATA", _REPOSITORY.parent / "shared" / "data"))


def real_data(*parts: str) -> Path:
    """The path of a real dataset; a test that needs one which is not there is skipped and says so."""
    found = FOLDER.joinpath(*parts)
    if not found.exists():
        pytest.skip(f"no {'/'.join(parts)} in {FOLDER}; set ARCHIPEL_DATA to the folder of test data")
    return found
