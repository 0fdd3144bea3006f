"""Pytest imports a test file by its name alone: a second one of a name would not be collected in the whole suite."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import archipel

TESTS = Path(str(archipel.__file__)).parents[2] / "tests"


def test_no_two_test_files_have_one_name() -> None:
    names = Counter(file.name for file in TESTS.rglob("test_*.py"))
    assert len(names) > 100
    assert [name for name, count in names.items() if count > 1] == []
