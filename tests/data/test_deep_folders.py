"""Folders inside folders without end, as a copy of a folder into itself makes them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from archipel.data import scan
from archipel.data.files import Folder
from archipel.data.formats.bids_validation import _leading_elsewhere
from archipel.data.limits import DATA_LIMITS
from archipel.site.services.datasets import folder_extent
from worlds.data_files import write_pairs

DEPTH = 400
"""More than may call one another in these tests; pytest removes its folders by a function that calls itself."""


@pytest.fixture(autouse=True)
def few_calls(tmp_path: Path) -> Iterator[None]:
    """At most 300 functions that call one another, besides those of pytest, until its own folders are removed."""
    assert tmp_path.is_dir()
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 300)
    yield
    sys.setrecursionlimit(before)


def deep(root: Path) -> Path:
    folder = root
    for _ in range(DEPTH):
        folder = folder / "a"
        folder.mkdir()
    return folder


def test_what_is_deeper_than_a_limit_is_one_finding_and_the_rest_is_read(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "brain", 2)
    end = deep(root)
    (end / "scan.nii.gz").write_bytes(b"")
    (end / "link").symlink_to("/etc")
    problems = []
    assert not [place for place in Folder(root).files("**/*", problems) if place.startswith("a/")]
    assert [str(one) for one in problems] == [
        f"{'a/' * 20}...: is {DATA_LIMITS.deepest} folders deep or more; what is below it is not read; "
        "move the files that are needed up"
    ]
    assert len(scan("nifti-pairs", root).samples) == 2
    assert folder_extent(root).files == 5
    assert _leading_elsewhere(root) == [f"{'a/' * DEPTH}link"]
