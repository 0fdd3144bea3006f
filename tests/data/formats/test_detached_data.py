"""Voxels beside their header: both files belong to the sample, and a header leads to no other file."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from made_volumes import intensities, segmentation

from archipel.data import Cohort, MemoryIndex, format_named, scan, verify
from archipel.data.volumes.volumes import read_image
from archipel.vocabulary import BadInput, ErrorCode
from opened_files import opens_under

OPTIONS = {"image": "{subject}", "label": "{subject}_segmentation"}


def mhd(path, values, packed=False, data=None, name="", size="5 6 7"):
    content = values.tobytes(order="F") if data is None else data
    kind = {"float32": "MET_FLOAT", "uint8": "MET_UCHAR"}[str(values.dtype)]
    name = name or f"{path.stem}.{'zraw' if packed else 'raw'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"NDims = 3\nDimSize = {size}\nOffset = 0 0 0\nElementType = {kind}\nCompressedData = {packed}\n"
        f"ElementDataFile = {name}\n"
    )
    if name == f"{path.stem}.{'zraw' if packed else 'raw'}":
        path.with_name(name).write_bytes(zlib.compress(content) if packed else content)
    return path


def dataset(root, packed=False):
    for number, subject in enumerate(("Case00", "Case01")):
        mhd(root / f"{subject}.mhd", intensities(number), packed)
        mhd(root / f"{subject}_segmentation.mhd", segmentation(number), packed)
    return root


@pytest.mark.parametrize("packed", [False, True])
def test_header_and_data_are_one_volume_and_both_are_the_samples(tmp_path, packed):
    found = scan("layout", dataset(tmp_path, packed), OPTIONS)
    assert found.problems == () and found.subjects == 2
    ending = "zraw" if packed else "raw"
    assert found.samples[0].files == {
        "image": "Case00.mhd",
        "image/data": f"Case00.{ending}",
        "label": "Case00_segmentation.mhd",
        "label/data": f"Case00_segmentation.{ending}",
    }
    assert found.samples[0].file_hashes.keys() == found.samples[0].files.keys()
    assert found.schema.modalities == {"image": 2}
    for number, reading in enumerate(format_named("layout").read(tmp_path, found.samples, OPTIONS)):
        assert set(reading.images) == {"image"} and np.array_equal(reading.images["image"], intensities(number))
        assert np.array_equal(reading.label, segmentation(number))


def test_data_that_changes_is_noticed_by_scan_and_verification(tmp_path):
    index = MemoryIndex()
    first = scan("layout", dataset(tmp_path), OPTIONS, index)
    with opens_under(tmp_path) as opened:
        assert scan("layout", tmp_path, OPTIONS, index) == first
    assert opened == set()
    cohort = Cohort(dataset="d", format="layout", options=OPTIONS, samples=first.samples)
    verify(tmp_path, cohort)
    (tmp_path / "Case00.raw").write_bytes(intensities(5).tobytes(order="F"))
    second = scan("layout", tmp_path, OPTIONS, index)
    assert second.samples[0].hash != first.samples[0].hash and second.samples[1] == first.samples[1]
    assert second == scan("layout", tmp_path, OPTIONS)
    with pytest.raises(BadInput, match=r"Case00\.raw: has other content") as refused:
        verify(tmp_path, cohort)
    assert refused.value.code is ErrorCode.DATA_CHANGED


@pytest.mark.parametrize("length", [0, 839, 841])
@pytest.mark.parametrize("packed", [False, True])
def test_data_has_exactly_the_bytes_that_the_header_says(tmp_path, length, packed):
    path = mhd(tmp_path / "a.mhd", intensities(0), packed, data=bytes(length))
    with pytest.raises(BadInput) as refused:
        read_image(path)
    said = "does not unpack to the 840 bytes" if packed else f"a.raw has {length} bytes, and its header says 840"
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "name", ["../secret.raw", "/etc/passwd", "secret.raw", "b.raw", "LIST", "a.%02d.raw", "sub/a.raw"]
)
def test_a_header_leads_to_no_file_of_another_name(tmp_path, name):
    (tmp_path / "secret.raw").write_bytes(bytes(840))
    (tmp_path / "d").mkdir()
    (tmp_path / "d/b.raw").write_bytes(bytes(840))
    path = mhd(tmp_path / "d/a.mhd", intensities(0), name=name)
    with opens_under(tmp_path) as opened, pytest.raises(BadInput, match="keeps its voxels in another file"):
        read_image(path)
    assert opened == {"d/a.mhd"}


def test_data_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(840))
    root = tmp_path / "d"
    mhd(root / "a.mhd", intensities(0))
    (root / "a.raw").unlink()
    (root / "a.raw").symlink_to(tmp_path / "secret")
    with opens_under(tmp_path) as opened:
        found = scan("layout", root, {"image": "{subject}"})
    said = " ".join(map(str, found.errors))
    assert found.samples == () and "a.raw, which is not a plain file" in said and "link to a place outside" in said
    assert opened == {"d/a.mhd"}
    (root / "a.raw").unlink()
    assert "a.raw, which is not there" in str(scan("layout", root, {"image": "{subject}"}).errors[0])


def test_a_header_of_too_many_voxels_is_refused_before_its_data_is_read(tmp_path):
    path = mhd(tmp_path / "a.mhd", intensities(0), size="4000 4000 4000")
    with (tmp_path / "a.raw").open("wb") as file:
        file.truncate(4 * 4000**3)
    with opens_under(tmp_path) as opened, pytest.raises(BadInput, match="would take 244140 MiB in memory"):
        read_image(path)
    assert opened == {"a.mhd"}


def test_nifti_in_two_files_and_analyze(tmp_path):
    affine = np.diag([-2.0, 1.5, 1, 1])
    nibabel.save(nibabel.Nifti1Pair(intensities(0), affine), tmp_path / "a.hdr")
    read, placed = read_image(tmp_path / "a.hdr")
    assert np.array_equal(read, intensities(0)) and np.allclose(placed, affine)
    found = scan("layout", tmp_path, {"image": "{subject}"})
    assert found.samples[0].files == {"image": "a.hdr", "image/data": "a.img"}
    nibabel.save(nibabel.AnalyzeImage(intensities(0), affine), tmp_path / "b.hdr")
    with pytest.raises(BadInput, match=r"is a header of Analyze 7\.5, which does not say what is left"):
        read_image(tmp_path / "b.hdr")


@pytest.mark.parametrize("ending", [".mgz", ".mgh"])
def test_volumes_of_freesurfer(tmp_path, ending):
    affine = np.array([[-1.0, 0, 0, 20], [0, 0, 1, -30], [0, -1, 0, 7], [0, 0, 0, 1]])
    nibabel.save(nibabel.MGHImage(intensities(0), affine), tmp_path / f"a{ending}")
    read, placed = read_image(tmp_path / f"a{ending}")
    assert np.array_equal(read, intensities(0)) and np.allclose(placed, affine)
    whole = (tmp_path / f"a{ending}").read_bytes()
    for damaged in (b"", whole[:200], whole[:-100], bytes(4) + whole[4:]):
        (tmp_path / f"a{ending}").write_bytes(damaged)
        with pytest.raises(BadInput):
            read_image(tmp_path / f"a{ending}")


@pytest.mark.parametrize(
    "content", [b"\x1f\x8b" + b"\xff" * 10, b"\0\0\0\0ni2\0" + b"\0" * 20], ids=["broken-gzip", "short-header"]
)
def test_a_damaged_header_is_named_and_the_other_patients_are_used(tmp_path: Path, content: bytes) -> None:
    for patient in ("p1", "p2", "p3"):
        (tmp_path / patient).mkdir()
    for patient in ("p1", "p2"):
        nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)).to_filename(tmp_path / patient / "T1.nii.gz")
    (tmp_path / "p3" / "T1.hdr").write_bytes(content)
    (tmp_path / "p3" / "T1.img").write_bytes(bytes(256))
    found = scan("layout", tmp_path, {"image": "{subject}/{modality}"})
    assert [sample.subject for sample in found.samples] == ["p1", "p2"]
    assert any("T1.hdr" in str(problem) and problem.subject == "p3" for problem in found.problems)


def test_a_name_of_data_may_begin_with_the_headers_own_folder(tmp_path):
    """As some programs write it: ./Case00.raw."""
    values = intensities(0)
    mhd(tmp_path / "Case00.mhd", values, name="./Case00.raw")
    (tmp_path / "Case00.raw").write_bytes(values.tobytes(order="F"))
    found = scan("layout", tmp_path, {"image": "{subject}"})
    assert found.errors == () and found.samples[0].files["image/data"] == "Case00.raw"
