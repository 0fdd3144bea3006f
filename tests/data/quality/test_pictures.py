from __future__ import annotations

import base64
import io
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image

from archipel.data import DataMapping, FileFacts, Folder, MemoryIndex, Signature, scan
from archipel.data.files import Purpose
from archipel.data.quality import QualityReport, build, draw_pictures, gather, page
from archipel.data.quality.pictures import Pictures, grey, overlay
from archipel.data.volumes import decoding, label_volumes, png, thumbnails, volumes
from archipel.data.volumes.decoding import Decoded
from archipel.data.volumes.thumbnails import LARGEST, PLANES, SIDE, image_thumbnails, label_thumbnails, shrunk
from worlds.data_files import write_volume
from worlds.examples import examples

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@given(arrays(np.uint8, SIZES))
def test_grey_pixels_come_back_from_a_png(pixels: np.ndarray) -> None:
    height, width = pixels.shape
    assert np.array_equal(np.asarray(opened(png.image(width, height, png.stream(pixels)))), pixels)


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_coloured_pixels_come_back_from_a_png(pixels: np.ndarray) -> None:
    height, width = pixels.shape[:2]
    found = opened(png.image(width, height, png.stream(pixels), png.COLOUR))
    assert np.array_equal(np.asarray(found), pixels)


@given(arrays(np.uint8, SIZES, elements=st.integers(0, 2)))
def test_a_palette_colours_pixels_after_they_were_compressed(pixels: np.ndarray) -> None:
    height, width = pixels.shape
    palette = ((0, 0, 0, 0), (255, 0, 0, 130), (0, 0, 255, 255))
    found = opened(png.image(width, height, png.stream(pixels), png.PALETTE, palette)).convert("RGBA")
    assert np.array_equal(np.asarray(found), np.array(palette, np.uint8)[pixels])


@examples(40)
@given(arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 30)), elements=st.floats(0, 1)))
def test_a_shrunk_picture_has_pixels_that_are_means(picture: np.ndarray) -> None:
    small = shrunk(picture, 7)
    assert max(small.shape) <= 7
    assert picture.min() - 1e-9 <= small.min() <= small.max() <= picture.max() + 1e-9
    if all(size % 7 == 0 for size in picture.shape):
        assert small.mean() == pytest.approx(picture.mean())


def corner_marked(shape=(20, 24, 28)) -> np.ndarray:
    """A volume in RAS that is bright at the patient's right, front and top."""
    volume = np.zeros(shape, np.float32)
    volume[shape[0] // 2 :, shape[1] // 2 :, shape[2] // 2 :] = 100
    return volume


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "AIL"])
def test_pictures_show_the_right_on_the_left_however_a_volume_is_stored(tmp_path: Path, codes: str) -> None:
    volume = corner_marked()
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    stored = nibabel.orientations.apply_orientation(volume, turn)
    write_volume(tmp_path / "v.nii.gz", stored, np.eye(4) @ inv_ornt_aff(turn, volume.shape))
    found = image_thumbnails(Folder(tmp_path), "v.nii.gz", (0, 100), (15, 18, 21))
    assert found is not None
    for plane in PLANES:
        pixels = np.asarray(opened(base64.b64decode(grey(found.slices[plane]))))
        height, width = pixels.shape
        assert pixels[: height // 2, : width // 2].min() == 255, plane
        assert pixels[height // 2 :].max() == 0, plane
        assert pixels[:, width // 2 :].max() == 0, plane


def test_thumbnails_are_small_and_as_wide_as_the_patient(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(100, 20, (300, 260, 20)).astype(np.float32)
    write_volume(tmp_path / "v.nii.gz", noise, np.diag([0.5, 0.5, 4.0, 1.0]))
    found = image_thumbnails(Folder(tmp_path), "v.nii.gz", (50, 150), None)
    assert found is not None
    for one in found.slices.values():
        assert len(one.data) <= LARGEST
        assert max(one.width, one.height) <= SIDE
    coronal = found.slices["coronal"]
    assert (coronal.width_mm, coronal.height_mm) == (150, 80)


def test_a_mask_is_cut_where_most_of_it_is_and_image_and_mask_at_one_place(tmp_path: Path) -> None:
    label = np.zeros((20, 24, 28), np.uint8)
    label[3:6, 4:9, 20:23] = 7
    label[4, 5, 21] = 9
    write_volume(tmp_path / "labels" / "v.nii.gz", label)
    found = label_thumbnails(Folder(tmp_path, MemoryIndex()), "labels/v.nii.gz")
    assert found is not None
    assert found.places == (3, 4, 20)
    axial = found.slices["axial"]
    assert axial.values == (0, 7)
    colours = [(0, 0, 0, 0), (200, 10, 10, 130)]
    pixels = np.asarray(opened(base64.b64decode(overlay(axial, colours))).convert("RGBA"))
    assert np.array_equal(pixels[..., 3] > 0, label[:, :, 20].T[::-1, ::-1] > 0)


@pytest.mark.parametrize("shape", [(5, 6, 7), (7, 600, 3), (3, 2, 1)])
@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_mask_is_cut_where_counting_each_axis_finds_most(shape: Any, turn: Any, order: Any) -> None:
    drawn = np.random.default_rng(0).random(shape) < 0.4
    label = np.array(drawn * 3, np.int16, order=order).transpose(turn)[::-1, :, ::-1]
    sizes = [np.count_nonzero(label, axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    assert thumbnails._largest_cuts(label) == tuple(int(np.argmax(one)) for one in sizes)
    assert thumbnails._largest_cuts(label * 0) == tuple(size // 2 for size in label.shape)


def test_pictures_once_made_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volume(tmp_path / "v.nii.gz", corner_marked())
    index = MemoryIndex()
    first = image_thumbnails(Folder(tmp_path, index), "v.nii.gz", (0, 100), None)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was opened"))
    assert image_thumbnails(Folder(tmp_path, index), "v.nii.gz", (0, 100), None) == first


def test_what_a_scan_has_decoded_is_not_opened_again_for_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = np.random.default_rng(0)
    for subject in ("s1", "s2", "s3"):
        label = np.zeros((12, 14, 10), np.uint8)
        label[3:6, 4:9, 2:5] = 1
        write_volume(tmp_path / "images" / f"{subject}.nii.gz", numbers.normal(50, 9, label.shape).astype(np.float32))
        write_volume(tmp_path / "labels" / f"{subject}.nii.gz", label)

    def pictures(index: MemoryIndex) -> Pictures:
        found = scan("nifti-pairs", tmp_path, index=index)
        evidence = gather(tmp_path, "nifti-pairs", {}, found, index)
        report = build("d", "nifti-pairs", evidence, DataMapping(), made_at="2026-01-01T00:00:00Z")
        return draw_pictures(tmp_path, "nifti-pairs", {}, evidence, report, index)

    class WithoutSketches(MemoryIndex):
        def put(self, place: str, purpose: Purpose[Any], signature: Signature, facts: FileFacts[Any]) -> None:
            if decoded[place] > 1 or not purpose.name.startswith("thumbnails"):
                super().put(place, purpose, signature, facts)

    decoded: Counter[str] = Counter()
    really = decoding.decode

    def decode(path: Path, content: bytes, *limits: Any) -> Decoded:
        decoded[path.relative_to(tmp_path).as_posix()] += 1
        return really(path, content, *limits)

    monkeypatch.setattr(volumes, "decode", decode)
    monkeypatch.setattr(label_volumes, "decode", decode)
    monkeypatch.setattr(thumbnails, "decode", decode)
    at_the_scan = pictures(MemoryIndex())
    assert set(decoded.values()) == {1} and len(decoded) == 6
    decoded.clear()
    afterwards = pictures(WithoutSketches())
    assert set(decoded.values()) == {2}
    assert at_the_scan == afterwards and len(at_the_scan.in_full) == 3


def xrays(root: Path, classes: int = 2, each: int = 40) -> Path:
    """Classes of small pictures; the last of the first class is there again under another name in the last class."""
    numbers = np.random.default_rng(0)
    for number in range(classes):
        (root / f"class-{number:02}").mkdir(parents=True)
        for patient in range(each):
            pixels = numbers.integers(0, 255, (16, 16), np.uint8)
            Image.fromarray(pixels).save(root / f"class-{number:02}" / f"c{number:02}-{patient:03}.png")
    first = root / "class-00" / f"c00-{each - 1:03}.png"
    shutil.copyfile(first, root / f"class-{classes - 1:02}" / f"c{classes - 1:02}-{each - 1:03}.png")
    return root


def pictures_of(root: Path) -> tuple[QualityReport, Pictures]:
    index = MemoryIndex()
    found = scan("class-folders", root, index=index)
    evidence = gather(root, "class-folders", {}, found, index)
    report = build("xray", "class-folders", evidence, DataMapping(), made_at="2026-01-01T00:00:00Z")
    return report, draw_pictures(root, "class-folders", {}, evidence, report, index)


def test_2d_images_that_a_finding_names_are_shown_first_in_a_red_frame(tmp_path: Path) -> None:
    report, pictures = pictures_of(xrays(tmp_path))
    twins = ("c00-039", "c01-039")
    assert any(set(twins) <= set(finding.samples) for finding in report.findings)
    assert [one.tiles[0][0] for one in pictures.classes] == list(twins)
    assert [len(one.tiles) for one in pictures.classes] == [24, 24]
    written = page(report, pictures)
    for name in twins:
        assert re.search(rf'<figure class="named">(?:(?!</figure>).)*{name}', written, re.DOTALL)
    assert written.count('<figure class="named">') == 2
    assert "red frame are named by a finding" in written and "those that findings name come first" in written


def test_a_class_with_a_finding_is_among_those_that_are_shown(tmp_path: Path) -> None:
    _, pictures = pictures_of(xrays(tmp_path, classes=22, each=11))
    names = [one.name for one in pictures.classes]
    assert len(names) == 20 and {"class-00", "class-21"} <= set(names) and names == sorted(names)
