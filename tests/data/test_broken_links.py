"""Links that lead nowhere, as a folder of git-annex has them before its files are fetched."""

from __future__ import annotations

import time
from pathlib import Path

from archipel.data.listing import Listing
from archipel.data.samples import DataIssue


def test_thousands_of_broken_links_are_each_told_once(tmp_path: Path) -> None:
    """Each was compared with all before it."""
    for number in range(5_000):
        (tmp_path / f"{number}.nii").symlink_to("gone")
    problems: list[DataIssue] = []
    began = time.process_time()
    for _ in range(2):
        assert list(Listing(tmp_path).files("*", problems)) == []
    assert len(problems) == 5_000 and time.process_time() - began < 8
