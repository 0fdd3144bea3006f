"""What reading a file takes: bounded before it is read, and a problem of that file where there is too little."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import nibabel
import numpy as np
import pytest

from archipel.data import scan
from archipel.data.files import Folder, MemoryIndex, file_hash, signature_of
from archipel.data.limits import DataLimits
from archipel.data.text_columns import TextColumn
from archipel.data.volumes.volumes import IMAGE, look, read_image, read_label
from archipel.vocabulary import BadInput
from worlds.data_files import write_pair, write_pairs, write_volume

SHORT = "needs more memory than this machine has left; free memory and try again, or leave it out"


def sparse(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(300 << 30)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_a_sparse_volume_is_named_by_its_size(tmp_path, name):
    """It says that it holds 300 GiB, and takes no space at all on a disk."""
    path = sparse(tmp_path / "images" / name)
    words = f"images/{name}: holds 307200 MiB; at most 2049 MiB are allowed"
    for role in ("image", "label"):
        assert words in str(look(Folder(tmp_path), f"images/{name}", role).problem)
    for read in (read_image, read_label):
        with pytest.raises(BadInput, match=words):
            read(path)


def test_a_sparse_file_is_not_hashed(tmp_path):
    with pytest.raises(BadInput, match="holds 307200 MiB; at most 16384 MiB are allowed"):
        file_hash(sparse(tmp_path / "a.csv"))


def test_the_other_subjects_of_a_dataset_are_used(tmp_path):
    write_pairs(tmp_path, 2)
    sparse(tmp_path / "images/sub-00.nii.gz")
    found = scan("nifti-pairs", tmp_path)
    assert [one.subject for one in found.samples] == ["sub-01"] and "holds 307200 MiB" in str(found.problems[0])


def scaled(path, values, slope):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header.set_slope_inter(slope, slope and 0)
    image.to_filename(path)
    return path


@pytest.mark.parametrize("slope", [None, 1, 2])
@pytest.mark.parametrize(("role", "bytes_a_voxel"), [("image", 6), ("label", 8)])
def test_reading_takes_few_bytes_a_voxel(tmp_path, role, bytes_a_voxel, slope):
    """The voxels as they are stored and as they are used, and nothing of 8 bytes beside them."""
    values = np.zeros((256, 256, 128), np.uint8)
    values[100:120, 100:120, 50:70] = 2
    scaled(tmp_path / "a.nii.gz", values, slope)
    folder = Folder(tmp_path)
    look(Folder(tmp_path.parent), f"{tmp_path.name}/a.nii.gz", role)
    tracemalloc.start()
    facts = look(folder, "a.nii.gz", role)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert facts.problem is None and facts.require_facts().shape == (256, 256, 128)
    # Besides, a few chunks of a million voxels.
    assert peak < bytes_a_voxel * values.size + (40 << 20)


def test_voxels_are_counted_as_what_they_are_read_into(tmp_path):
    """A byte each on disk, four in memory."""
    write_volume(tmp_path / "a.nii.gz", np.zeros((20, 20, 20), np.uint8))
    few, enough = (Folder(tmp_path, limits=DataLimits(volume_bytes=most)) for most in (31_999, 32_000))
    assert "would take 0 MiB in memory" in str(look(few, "a.nii.gz", "image").problem)
    assert look(enough, "a.nii.gz", "image").problem is None


def test_memory_that_runs_out_is_a_problem_that_is_not_remembered(tmp_path):
    path = write_volume(tmp_path / "a.nii.gz", np.ones((4, 4, 4), np.float32))
    index = MemoryIndex()

    def short(*_):
        raise MemoryError

    for looked in (Folder(tmp_path, index).look_at_bytes, Folder(tmp_path, index).look):
        found = looked("a.nii.gz", IMAGE, short)
        assert SHORT in str(found.problem) and index.get("a.nii.gz", IMAGE, signature_of(path)) is None
    assert look(Folder(tmp_path, index), "a.nii.gz", "image").problem is None


def test_memory_that_runs_out_while_a_volume_is_decoded_is_not_damage(tmp_path, monkeypatch):
    path = write_volume(tmp_path / "a.nii.gz", np.ones((4, 4, 4), np.float32))

    def short(*_, **__):
        raise MemoryError

    monkeypatch.setattr("archipel.data.volumes.decoding.unpacked", short)
    assert SHORT in str(look(Folder(tmp_path), "a.nii.gz", "image").problem)
    for read in (read_image, read_label):
        with pytest.raises(BadInput, match=SHORT):
            read(path)


@pytest.mark.processes
def test_a_site_that_has_little_memory_names_the_large_volume_and_uses_the_others(tmp_path):
    write_pair(tmp_path, "small")
    for folder, kind in (("images", np.int16), ("labels", np.uint8)):
        write_volume(tmp_path / folder / "large.nii.gz", np.zeros((512, 512, 256), kind))
    code = f"""
import resource
from pathlib import Path
from archipel.data import scan
root = Path({str(tmp_path)!r})
(root / "once").mkdir()
scan("nifti-pairs", root / "once")
import nibabel.nifti1, nibabel.nifti2, scipy
from archipel.data.limits import DataLimits
from archipel.data.volumes.volumes import read_image
read_image(root / "images/small.nii.gz")
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (48 << 20),) * 2)
found = scan("nifti-pairs", root)
print([one.subject for one in found.samples], *found.problems, sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    used, *problems = done.stdout.splitlines()
    assert used == "['small']" and problems and all(SHORT in line for line in problems)


def test_texts_of_a_kilobyte_are_taken_in_little_memory_beside_them() -> None:
    texts = [f"{number:05}" * 200 for number in range(20_000)]
    texts += ["x" * 3_000_000, "", "é" * 700_000]
    column = TextColumn.of(texts)
    places = np.random.default_rng(1).permutation(len(texts))
    tracemalloc.start()
    taken = column.take(places)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken == [texts[place] for place in places] and list(column) == texts
    # A text of 3 MB is one step; its places take 24 bytes for each of its own.
    assert peak < len(column.buffer) + 130e6
