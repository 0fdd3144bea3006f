"""Reading ahead changes how long a scan takes, and nothing else: the same samples, problems and index, in order."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from archipel.data import reading_ahead, scan
from archipel.data.files import MemoryIndex, signature_of
from archipel.data.limits import DataLimits
from archipel.data.reading_ahead import ReadingAhead
from archipel.vocabulary import BadInput

SUBJECTS = 8


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Pairs of noise, which no packing makes small; one image is truncated, one label has no label values."""
    random = np.random.default_rng(0)
    for number in range(SUBJECTS):
        image = random.integers(0, 1000, (12, 12, 12)).astype(np.int16)
        label = (random.random((12, 12, 12)) > 0.5).astype(np.uint8)
        for part, values in (("images", image), ("labels", label)):
            path = tmp_path / "set" / part / f"sub-{number}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(values, np.eye(4)).to_filename(path)
    truncated = tmp_path / "set/images/sub-3.nii"
    truncated.write_bytes(truncated.read_bytes()[:2000])
    no_label = tmp_path / "set/labels/sub-5.nii"
    nibabel.Nifti1Image(np.full((12, 12, 12), -1, np.int16), np.eye(4)).to_filename(no_label)
    return tmp_path / "set"


@pytest.fixture
def processors(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the machine have so many."""
    return lambda count: monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)))


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that threads read, in no order."""
    names: list[str] = []
    kept = reading_ahead._measured

    def measured(path, size, measure, limits):
        assert threading.current_thread() is not threading.main_thread()
        names.append(path.relative_to(path.parents[1]).as_posix())
        return kept(path, size, measure, limits)

    monkeypatch.setattr(reading_ahead, "_measured", measured)
    return names


def test_with_one_processor_and_with_several_a_scan_finds_the_same(tree, processors, ahead):
    answers = []
    for count in (1, 2, 4):
        processors(count)
        index = MemoryIndex()
        found = scan("nifti-pairs", tree, index=index)
        known = {key: (signature, facts) for key, (signature, facts) in index._known.items()}
        answers.append((list(found.samples), found.problems, found.schema, list(known.items())))
        assert bool(ahead) == (count > 1)
    assert answers[0] == answers[1] == answers[2]
    problems = answers[0][1]
    assert [problem.subject for problem in problems if problem.severity == "error"] == ["sub-3", "sub-5"]


def test_nothing_of_a_subject_who_is_left_out_is_read_ahead(tree, processors, ahead):
    processors(2)
    scan("nifti-pairs", tree, leaves_out={"sub-2", "sub-4"}.__contains__)
    assert ahead and not {name for name in ahead if "sub-2" in name or "sub-4" in name}


def test_only_files_that_are_not_known_are_read_ahead(tree, processors, ahead):
    processors(2)
    index = MemoryIndex()
    first = scan("nifti-pairs", tree, index=index)
    ahead.clear()
    assert list(scan("nifti-pairs", tree, index=index).samples) == list(first.samples) and not ahead
    for place in ("images/sub-1.nii", "images/sub-2.nii"):
        path = tree / place
        path.write_bytes(path.read_bytes())
    scan("nifti-pairs", tree, index=index)
    assert ahead == ["images/sub-2.nii"], "the scan met the first itself, and then asked for the next"


def test_threads_end_with_the_scan_also_after_an_error(tree, processors, ahead):
    processors(2)

    class Stops(MemoryIndex):
        def get(self, place, purpose, signature):
            if place == "images/sub-4.nii":
                raise KeyboardInterrupt
            return super().get(place, purpose, signature)

    with pytest.raises(KeyboardInterrupt):
        scan("nifti-pairs", tree, index=Stops())
    assert ahead and not [one for one in threading.enumerate() if one.name.startswith("reading-ahead")]


def test_a_file_that_changed_since_it_was_read_is_read_again(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 2000)
    before = signature_of(path)
    with ReadingAhead(threads=1) as reading:
        reading.begin(("file", "", ""), path, before, lambda *_: "then")
        found = reading.take(("file", "", ""), before)
        assert found is not None and found.measured == "then"
        assert reading.take(("file", "", ""), before) is None, "it is held no longer"
        reading.begin(("file", "", ""), path, before, lambda *_: "then")
        path.write_bytes(b"y" * 2000)
        assert reading.take(("file", "", ""), signature_of(path)) is None


def test_a_file_with_a_problem_is_left_to_the_scan(tmp_path):
    def refuse(*_):
        raise BadInput("file", "is bad", "fix it")

    with ReadingAhead(threads=1) as reading:
        reading.begin(("none", "", ""), tmp_path / "none", (2000,), lambda *_: 1)
        assert reading.take(("none", "", ""), (2000,)) is None
        (tmp_path / "bad").write_bytes(b"x" * 2000)
        reading.begin(("bad", "", ""), tmp_path / "bad", (2000,), refuse)
        assert reading.take(("bad", "", ""), (2000,)) is None


def test_what_is_held_is_bounded_and_what_was_passed_over_makes_room(tmp_path):
    limits: list[DataLimits] = []
    path = tmp_path / "file"
    path.write_bytes(b"")
    with ReadingAhead(threads=1) as reading:
        assert not reading.takes(100) and not reading.takes(reading_ahead.MOST_BYTES + 1)
        for size, most in ((2000, reading_ahead.SMALL_FILES), (2 << 20, reading_ahead.LARGE_FILES)):
            for number in range(most):
                assert reading.takes(size)
                key = f"{size} {number}", "", ""
                reading.begin(key, path, (size,), lambda path, content, given: limits.append(given))
            assert not reading.takes(size)
        assert reading.take((f"2000 {reading_ahead.SMALL_FILES - 1}", "", ""), (2000,)) is not None
        assert reading.takes(2000) and not reading.takes(2 << 20)
        assert reading.take((f"{2 << 20} {reading_ahead.LARGE_FILES - 1}", "", ""), (2 << 20,)) is not None
    allowed = {one.volume_bytes for one in limits}
    assert allowed <= {reading_ahead.SMALL_VOLUME_BYTES, reading_ahead.LARGE_VOLUME_BYTES}
    assert reading_ahead.SMALL_VOLUME_BYTES in allowed and reading_ahead.LARGE_VOLUME_BYTES in allowed
