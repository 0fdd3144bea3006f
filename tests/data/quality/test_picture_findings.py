"""What the quality report says of pictures: each fault planted into a sound set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from archipel.data import DataMapping, MemoryIndex, scan
from archipel.data.quality import Pictures, QualityReport, Severity, build, gather, page
from worlds.evidence import codes, report_of, sound_pictures

NUMBERS = np.random.default_rng(0)


def sound(number: int) -> np.ndarray:
    """A picture that differs a little from the others."""
    numbers = np.random.default_rng(number)
    return np.clip(numbers.normal(110 + numbers.normal(0, 3), 30, (16, 16)), 1, 250).astype(np.uint8)


def report_with(root, **faulty: np.ndarray) -> QualityReport:
    """The report of 2 x 10 sound pictures and of these, in class ``ill``."""
    held = {f"{'well' if number % 2 else 'ill'}/{number:02}": sound(number) for number in range(20)}
    held |= {f"ill/{name}": values for name, values in faulty.items()}
    return report_on(root, held)


def report_on(root, held: dict[str, np.ndarray]) -> QualityReport:
    for place, values in held.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(root / f"{place}.png")
    index = MemoryIndex()
    found = scan("class-folders", root, index=index)
    evidence = gather(root, "class-folders", {}, found, index)
    return build("xray", "class-folders", evidence, DataMapping(), made_at="2026-01-01T00:00:00Z")


def test_sound_pictures_are_ready(tmp_path) -> None:
    report = report_with(tmp_path)
    assert report.findings == () and report.counts.classes == {"ill": 10, "well": 10}


def test_a_picture_of_one_value_is_an_error(tmp_path) -> None:
    (finding,) = report_with(tmp_path, blank=np.full((16, 16), 7, np.uint8)).findings
    assert (finding.code, finding.severity, finding.samples) == ("constant-image", Severity.ERROR, ("blank",))


def test_a_clipped_picture_is_named_with_its_values(tmp_path) -> None:
    clipped = np.where(sound(50) > 110, 255, 0).astype(np.uint8)
    (finding,) = [one for one in report_with(tmp_path, cut=clipped).findings if one.code == "clipped-image"]
    assert finding.samples == ("cut",)
    assert "1 of 21 pictures are clipped: 100% of the pixels of cut are 0 or 255" in finding.what


def test_a_saturated_picture_is_a_warning_and_a_white_background_everywhere_a_note(tmp_path) -> None:
    white = sound(50)
    white[:8] = 255
    (finding,) = [one for one in report_with(tmp_path / "a", bright=white).findings if one.code == "saturated-image"]
    assert (finding.severity, finding.samples) == (Severity.WARNING, ("bright",))
    assert "(bright: 255 in 50%)" in finding.what
    held = {f"{'ab'[number % 2]}/{number}": sound(number) for number in range(12)}
    for values in held.values():
        values[:6] = 255
    (finding,) = report_on(tmp_path / "b", held).findings
    assert (finding.code, finding.severity, finding.count) == ("saturated-image", Severity.NOTE, 12)


def test_a_picture_unlike_the_others_is_an_outlier(tmp_path) -> None:
    (finding,) = report_with(tmp_path, dark=(sound(50) // 8)).findings
    assert (finding.code, finding.samples) == ("intensity-outlier", ("dark",))
    assert finding.what.startswith("pictures far from the others (robust z-score above 6): dark (mean ")


def test_classes_of_another_range_are_a_finding(tmp_path) -> None:
    """12 bits against 16, which one class came with: a model would learn that."""
    held = {f"well/{number}": sound(number).astype(np.uint16) * 16 for number in range(8)}
    held |= {f"ill/{number + 20}": sound(number + 20).astype(np.uint16) * 256 for number in range(8)}
    report = report_on(tmp_path, held)
    (finding,) = [one for one in report.findings if one.code == "class-range"]
    assert "the classes have different ranges of values: ill " in finding.what and ", well " in finding.what
    assert [(one.name, one.mean.count) for one in report.picture_values] == [("ill", 8), ("well", 8)]
    assert report.picture_values[0].maximum.median > 10 * report.picture_values[1].maximum.median
    written = page(report, Pictures())
    assert "Values of the pictures" in written and "different ranges of values" in written


def test_classes_of_a_shifted_range_are_a_finding() -> None:
    """Hounsfield units at one class, an offset forgotten at the other."""
    evidence = sound_pictures()
    arrays = {
        key: replace(facts, minimum=-1000.0, high=400.0) if facts.label == "0" else replace(facts, high=1400.0)
        for key, facts in evidence.arrays.items()
    }
    assert codes(report_of(replace(evidence, arrays=arrays))) == ["class-range"]


def test_equal_pictures_in_two_class_folders_conflict(tmp_path) -> None:
    report = report_with(tmp_path, twin=sound(1))
    assert "duplicate-with-other-class" in [one.code for one in report.findings]
