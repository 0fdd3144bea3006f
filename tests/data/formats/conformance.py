"""What holds for every format, whatever its layout: one suite, inherited by each format's test class.

A format's class says how a sound dataset is written, changed and spoilt; the claims are here. It is not collected by
itself, because its name does not begin with Test.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from archipel.data import Cohort, MemoryIndex, Sample, SampleData, format_named, scan, verify
from archipel.data.formats import detect
from archipel.vocabulary import BadInput, ErrorCode
from opened_files import opens_under

SUBJECTS = ("sub-01", "sub-02", "sub-03")
HTML = b"<!DOCTYPE html><html><body>Your session has expired, please log in.</body></html>\n" * 20


@dataclass(frozen=True)
class Expected:
    """What reading one sample must give; what is None or empty is not compared."""

    images: Mapping[str, Any] = field(default_factory=dict)
    label: Any = None
    affine: Any = None
    arrays: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


def files_under(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def signatures(root: Path) -> dict[str, tuple[int, int, int, int]]:
    found = {path.relative_to(root).as_posix(): path.stat() for path in files_under(root)}
    return {place: (one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino) for place, one in found.items()}


def same(left: Any, right: Any) -> bool:
    return bool(np.array_equal(np.asarray(left), np.asarray(right)))


def check_reading(reading: SampleData, expected: Expected) -> None:
    if expected.images:
        assert set(reading.images) == set(expected.images)
        for name, image in expected.images.items():
            assert reading.images[name].dtype == np.float32
            assert same(reading.images[name], np.asarray(image, np.float32)), name
        assert (reading.label is None) == (expected.label is None)
    if expected.label is not None:
        assert reading.label is not None and reading.label.dtype == np.int16
        assert same(reading.label, expected.label)
    if expected.affine is not None:
        assert np.allclose(reading.affine, expected.affine, atol=1e-5)
    for name, array in expected.arrays.items():
        assert same(reading.arrays[name], array), name
    for name, value in expected.values.items():
        assert reading.values[name] == value, name


class Conformance:
    """Inherit, name ``format`` and write ``write``, ``change``, ``remove`` and ``repeat``."""

    format: ClassVar[str]
    options: ClassVar[Mapping[str, str]] = {}
    free_ids: ClassVar[bool] = True
    """Whether subjects may have any name that a file may have."""
    fragile: ClassVar[str] = "*"
    """Which files make an error when they hold something else altogether (a glob; all other files may be text)."""

    def write(self, root: Path, subjects: Sequence[str] = SUBJECTS) -> dict[tuple[str, str], Expected]:
        """Write a sound dataset of these subjects; what each sample must read as, by (subject, session).

        Where the format knows sessions, the first subject has two.
        """
        raise NotImplementedError

    def change(self, root: Path) -> str:
        """Change one sample's content, soundly; a piece of what names it."""
        raise NotImplementedError

    def remove(self, root: Path) -> str:
        """Remove one sample's content; a piece of what names it."""
        raise NotImplementedError

    def repeat(self, root: Path) -> str:
        """Put one sample there a second time; a piece of what names it."""
        raise NotImplementedError

    # What follows are claims.

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        folder = tmp_path / "dataset"
        folder.mkdir()
        return folder

    def scanned(self, root: Path, index: MemoryIndex | None = None) -> Any:
        return scan(self.format, root, self.options, index)

    def cohort(self, samples: Sequence[Sample]) -> Cohort:
        return Cohort(dataset="tested", format=self.format, options=dict(self.options), samples=tuple(samples))

    def read(self, root: Path, samples: Sequence[Sample]) -> list[SampleData]:
        return list(format_named(self.format).read(root, samples, self.options))

    def test_a_sound_dataset_scans_without_a_problem_and_is_counted(self, root):
        expected = self.write(root)
        found = self.scanned(root)
        assert found.problems == ()
        assert [sample.key for sample in found.samples] == sorted(expected)
        assert found.schema.kind == format_named(self.format).kind
        assert (found.schema.subjects, found.schema.samples) == (len({key[0] for key in expected}), len(expected))

    def test_it_reads_as_it_was_written_in_any_order(self, root):
        expected = self.write(root)
        samples = self.scanned(root).samples
        for ordered in (samples, samples[::-1]):
            for sample, reading in zip(ordered, self.read(root, ordered), strict=True):
                check_reading(reading, expected[sample.key])

    def test_it_reads_from_its_samples_files_alone(self, root, tmp_path):
        expected = self.write(root)
        samples = self.scanned(root).samples
        for place in {place for sample in samples for place in sample.files.values()}:
            (tmp_path / "stage" / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / place, tmp_path / "stage" / place)
        for sample, reading in zip(samples, self.read(tmp_path / "stage", samples), strict=True):
            check_reading(reading, expected[sample.key])
        verify(tmp_path / "stage", self.cohort(samples))

    def test_a_sample_crosses_borders_as_json(self, root):
        self.write(root)
        for sample in self.scanned(root).samples:
            assert Sample.model_validate_json(sample.model_dump_json()) == sample

    def test_a_scan_does_not_depend_on_the_order_of_directories(self, root, monkeypatch):
        self.write(root)
        first = self.scanned(root)
        assert self.scanned(root) == first
        scandir, listdir = os.scandir, os.listdir

        class Backwards:
            def __init__(self, *arguments):
                with scandir(*arguments) as entries:
                    self._entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def __iter__(self):
                return self

            def __next__(self):
                return next(self._entries)

            def close(self):
                pass

        monkeypatch.setattr(os, "scandir", Backwards)
        monkeypatch.setattr(os, "listdir", lambda *arguments: sorted(listdir(*arguments), reverse=True))
        assert self.scanned(root) == first

    def test_the_subject_is_the_unit(self, root):
        expected = self.write(root)
        samples = self.scanned(root).samples
        assert len({sample.key for sample in samples}) == len(samples)
        if any(session for _, session in expected):
            assert len({sample.subject for sample in samples}) < len(samples), "sessions share their subject's id"

    def test_a_subject_that_is_left_out_is_as_if_it_were_not_there(self, root):
        expected = self.write(root)
        first = self.scanned(root).samples[0].subject
        found = scan(self.format, root, self.options, leaves_out=lambda subject: subject == first)
        left = {key: one for key, one in expected.items() if key[0] != first}
        assert found.problems == () and [sample.key for sample in found.samples] == sorted(left)
        counts = found.schema.model_dump()
        assert (counts["subjects"], counts["samples"]) == (len({key[0] for key in left}), len(left))
        assert all(count <= len(left) for name in ("modalities", "label_values") for count in counts[name].values())
        for column in found.schema.columns.values():
            assert sum(column.categories.values()) + column.missing <= len(left), column
        for sample, reading in zip(found.samples, self.read(root, found.samples), strict=True):
            check_reading(reading, left[sample.key])
        verify(root, self.cohort(found.samples))

    def test_nothing_is_said_of_a_subject_that_is_left_out(self, root):
        """Whatever is wrong with its data."""
        self.write(root)
        links = [
            partial(self._lead_out, place) for place in map(str, (one.relative_to(root) for one in files_under(root)))
        ]
        for spoil in (self.repeat, self.remove, *links):
            self.write(root)
            spoil(root)
            index = MemoryIndex()
            for subject in SUBJECTS:
                found = scan(self.format, root, self.options, index, leaves_out=subject.__eq__)
                assert not [str(one) for one in found.problems if subject in f"{one} {one.subject}"]
                assert subject not in {sample.subject for sample in found.samples}
            shutil.rmtree(root)
            root.mkdir()

    def _lead_out(self, place, root):
        (root / place).unlink()
        (root / place).symlink_to(root.parent / "nowhere")

    def test_a_sample_that_is_there_twice_is_reported(self, root):
        self.write(root)
        named = self.repeat(root)
        found = self.scanned(root)
        assert any(named in str(problem) for problem in found.problems), found.problems
        assert len({sample.key for sample in found.samples}) == len(found.samples)

    def test_a_cohort_is_verified_and_what_changed_or_went_is_named(self, root):
        self.write(root)
        cohort = self.cohort(self.scanned(root).samples)
        verify(root, cohort)
        for spoil in (self.change, self.remove):
            named = spoil(root)
            with pytest.raises(BadInput) as caught:
                verify(root, cohort)
            assert caught.value.code is ErrorCode.DATA_CHANGED
            assert named in str(caught.value), caught.value
            shutil.rmtree(root)
            root.mkdir()
            self.write(root)
            cohort = self.cohort(self.scanned(root).samples)

    def test_a_second_scan_opens_only_what_changed(self, root):
        self.write(root)
        index = MemoryIndex()
        first = self.scanned(root, index)
        with opens_under(root) as opened:
            assert self.scanned(root, index) == first
        assert opened == set()
        before = signatures(root)
        self.change(root)
        changed = {place for place, signature in signatures(root).items() if before.get(place) != signature}
        with opens_under(root) as opened:
            second = self.scanned(root, index)
        assert opened == changed and changed
        assert second == self.scanned(root)
        assert second.samples != first.samples

    def test_hidden_files_are_passed_over(self, root):
        self.write(root)
        first = self.scanned(root)
        for path in files_under(root):
            path.with_name(f"._{path.name}").write_bytes(b"resource fork")
        (root / ".DS_Store").write_bytes(b"\0")
        (root / ".cache").mkdir()
        shutil.copyfile(files_under(root)[-1], root / ".cache" / files_under(root)[-1].name)
        assert self.scanned(root) == first

    def test_a_link_out_of_the_dataset_is_reported_and_never_read(self, root, tmp_path):
        self.write(root)
        sample = self.scanned(root).samples[0]
        for link in {sample.files[role] for role in sample.files}:
            outside = tmp_path / "elsewhere" / link
            outside.parent.mkdir(parents=True, exist_ok=True)
            (root / link).rename(outside)
            (root / link).symlink_to(outside)
            with opens_under(tmp_path) as opened:
                found = self.scanned(root)
            assert any("link to a place outside the dataset" in str(one) and link in str(one) for one in found.errors)
            assert not any("elsewhere" in place for place in opened)
            assert sample not in found.samples
            (root / link).unlink()
            outside.rename(root / link)

    def test_a_folder_that_is_a_link_out_of_the_dataset_is_reported_and_never_read(self, root, tmp_path):
        self.write(root)
        sample = self.scanned(root).samples[0]
        tops = {place.split("/")[0] for place in sample.files.values() if "/" in place}
        for top in tops:
            (root / top).rename(tmp_path / "elsewhere")
            (root / top).symlink_to(tmp_path / "elsewhere")
            with opens_under(tmp_path) as opened:
                found = self.scanned(root)
            assert any("link to a place outside the dataset" in str(one) and top in str(one) for one in found.errors)
            assert not any("elsewhere" in place for place in opened)
            assert sample not in found.samples
            (root / top).unlink()
            (tmp_path / "elsewhere").rename(root / top)

    def test_a_path_with_spaces_and_accents_works(self, tmp_path):
        root = tmp_path / "Données de l'été (à vérifier) 中"
        root.mkdir()
        subjects = ("Zoë 1", "Ærø - b", "sub-03") if self.free_ids else SUBJECTS
        expected = self.write(root, subjects)
        found = self.scanned(root)
        assert found.problems == () and [sample.key for sample in found.samples] == sorted(expected)
        for sample, reading in zip(found.samples, self.read(root, found.samples), strict=True):
            check_reading(reading, expected[sample.key])
        verify(root, self.cohort(found.samples))

    def test_an_empty_folder_is_a_problem(self, root):
        found = self.scanned(root)
        assert found.samples == () and found.errors

    def test_a_folder_that_is_not_there_and_an_unknown_option_are_refused(self, root, tmp_path):
        with pytest.raises(BadInput, match="is not a folder"):
            scan(self.format, tmp_path / "nowhere", self.options)
        self.write(root)
        with pytest.raises(BadInput, match="option colour of format"):
            scan(self.format, root, {**self.options, "colour": "blue"})

    @pytest.mark.parametrize(
        "content", [b"", bytes(4096), HTML, b"\x1f\x8b" + bytes(50), gzip.compress(bytes(900), mtime=0)]
    )
    def test_a_file_that_is_something_else_is_a_problem(self, root, content):
        self.write(root)
        index = MemoryIndex()  # only the file that was changed is looked into again
        for path in files_under(root):
            whole = path.read_bytes()
            path.write_bytes(content)
            found = self.scanned(root, index)
            if path.match(self.fragile):
                assert found.errors, path
            path.write_bytes(whole)

    @pytest.mark.parametrize("seed", range(4))
    def test_damaged_bytes_never_raise(self, root, seed):
        self.write(root, SUBJECTS[:2])
        numbers, index = np.random.default_rng(seed), MemoryIndex()
        for path in files_under(root):
            whole = path.read_bytes()
            damaged = bytearray(gzip.decompress(whole) if whole[:2] == b"\x1f\x8b" else whole)
            for place in numbers.integers(0, min(len(damaged), 400), 8):
                damaged[place] = numbers.integers(256)
            path.write_bytes(gzip.compress(bytes(damaged), 1) if whole[:2] == b"\x1f\x8b" else bytes(damaged))
            found = self.scanned(root, index)
            assert all(str(problem) for problem in found.problems)
            path.write_bytes(whole[: int(numbers.integers(len(whole)))])
            self.scanned(root, index)
            path.write_bytes(whole)

    def test_a_dataset_that_goes_away_during_the_scan_is_a_problem(self, root):
        self.write(root)
        places = {place for sample in self.scanned(root).samples for place in sample.files.values()}

        class Pulled(MemoryIndex):
            """The folder is gone once the first file of a sample was looked into."""

            def put(self, place: str, *arguments: Any) -> None:
                if place in places:
                    shutil.rmtree(root, ignore_errors=True)
                super().put(place, *arguments)

        found = self.scanned(root, Pulled())
        assert not root.exists()
        if len(places) > 1:
            assert found.errors
            assert {place for sample in found.samples for place in sample.files.values()} < places
        else:
            # It was read to its end: what is gone is found when it is used.
            with pytest.raises(BadInput) as caught:
                verify(root, self.cohort(found.samples))
            assert caught.value.code is ErrorCode.DATA_CHANGED

    def test_the_format_is_found_from_the_folder(self, root):
        self.write(root)
        fits = detect(root)
        assert fits and fits[0].format == self.format and fits[0].reason
