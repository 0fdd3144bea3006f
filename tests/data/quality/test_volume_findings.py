from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import aff2axcodes

from archipel.data import DataIssue, DataMapping
from archipel.data.quality import Evidence, Readiness, Severity
from archipel.data.quality.evidence import orientation_codes
from worlds.evidence import NAMES, codes, report_of, sample, sound_volumes, with_scan, with_volume


def only(evidence: Evidence, mapping: DataMapping = NAMES):
    """The one finding there is."""
    findings = report_of(evidence, mapping).findings
    assert len(findings) == 1, codes(report_of(evidence, mapping))
    return findings[0]


@pytest.mark.parametrize("count", [12, 20, 130])
def test_a_sound_set_has_no_finding_and_is_ready(count: int) -> None:
    report = report_of(sound_volumes(count))
    assert report.findings == ()
    assert report.verdict is Readiness.READY


def test_the_same_image_under_two_subjects_makes_a_dataset_unready() -> None:
    sound = sound_volumes()
    twin = sound.volumes["sub-03", ""]["image"]
    evidence = with_volume(sound, "sub-11", voxels=twin.voxels, shape=twin.shape)
    finding = only(evidence)
    assert (finding.code, finding.severity) == ("duplicate-across-subjects", Severity.ERROR)
    assert finding.samples == ("sub-03", "sub-11")
    assert "sub-03 = sub-11 (same pixels)" in finding.what
    assert report_of(evidence).verdict is Readiness.NOT_READY


def test_a_file_copied_byte_for_byte_is_said_to_be_the_same_file() -> None:
    sound = sound_volumes()
    twin = sound.volumes["sub-03", ""]["image"]
    samples = [
        one.model_copy(update={"file_hashes": sound.scan.samples[3].file_hashes}) if one.subject == "sub-11" else one
        for one in sound.scan.samples
    ]
    finding = only(with_scan(with_volume(sound, "sub-11", voxels=twin.voxels, shape=twin.shape), samples))
    assert "sub-03 = sub-11 (same file)" in finding.what


def test_the_same_image_in_two_sessions_of_a_subject_is_a_warning() -> None:
    sound = sound_volumes()
    again = sample("sub-03", "ses-2")
    known = dict(sound.volumes) | {again.key: {"image": sound.volumes["sub-03", ""]["image"]}}
    evidence = with_scan(replace(sound, volumes=known), (*sound.scan.samples, again))
    finding = only(evidence)
    assert (finding.code, finding.severity) == ("duplicate-within-subject", Severity.WARNING)
    assert finding.samples == ("sub-03", "sub-03_ses-2")


def test_an_empty_mask_is_named() -> None:
    finding = only(with_volume(sound_volumes(), "sub-05", "label", label_voxels={"0": 60_000}))
    assert (finding.code, finding.samples) == ("empty-mask", ("sub-05",))


def test_a_mask_that_the_mapping_leaves_nothing_of_is_empty() -> None:
    mapping = DataMapping(labels={"1": 1}, drop_other_labels=True, label_names={"1": "anterior"})
    evidence = with_volume(sound_volumes(), "sub-05", "label", label_voxels={"0": 60_000, "2": 900})
    assert codes(report_of(evidence, mapping)) == ["empty-mask"]


def test_masks_that_were_saved_as_pictures_are_named_until_the_mapping_knows_them() -> None:
    evidence = sound_volumes()
    for one in evidence.scan.samples:
        evidence = with_volume(evidence, one.subject, "label", label_voxels={"0": 60_000, "255": 900})
    finding = next(one for one in report_of(evidence, DataMapping()).findings if one.code == "stretched-mask")
    assert (finding.severity, finding.count) == (Severity.WARNING, len(evidence.scan.samples))
    assert finding.what == "masks hold 0, 255, as pictures do, in the place of 0, 1"
    assert "write 255 = 1 under [labels]" in finding.remedy
    assert "stretched-mask" not in codes(report_of(evidence, DataMapping(labels={"255": 1})))


def test_a_mask_of_another_patient_is_named() -> None:
    sound = sound_volumes()
    twin = sound.volumes["sub-03", ""]["label"]
    finding = only(with_volume(sound, "sub-11", "label", voxels=twin.voxels, shape=twin.shape))
    assert (finding.code, finding.samples) == ("duplicate-mask", ("sub-03", "sub-11"))


def test_a_label_value_outside_the_declared_set_is_an_error_until_it_is_mapped() -> None:
    counts = {"0": 60_000, "1": 1500, "2": 1300, "7": 3}
    evidence = with_volume(sound_volumes(), "sub-05", "label", label_voxels=counts)
    finding = only(evidence)
    assert (finding.code, finding.severity, finding.samples) == ("undeclared-label", Severity.ERROR, ("sub-05",))
    assert finding.what.endswith(": 7")
    mapped = DataMapping(labels={"7": 0}, label_names=NAMES.label_names)
    assert report_of(evidence, mapped).findings == ()


def test_a_declared_label_that_no_mask_has_is_named() -> None:
    mapping = DataMapping(label_names=NAMES.label_names | {"9": "tail"})
    finding = only(sound_volumes(), mapping)
    assert finding.code == "absent-label"
    assert "9 tail" in finding.what


def test_a_structure_that_one_mask_lacks_is_named() -> None:
    finding = only(with_volume(sound_volumes(), "sub-05", "label", label_voxels={"0": 60_000, "1": 1500}))
    assert (finding.code, finding.samples) == ("label-missing-in-some", ("sub-05",))


def test_a_flipped_orientation_is_named_until_the_mapping_turns_all_to_one() -> None:
    evidence = with_volume(with_volume(sound_volumes(), "sub-05", orientation="LAS"), "sub-05", "label")
    finding = only(evidence)
    assert (finding.code, finding.samples) == ("mixed-orientation", ("sub-05",))
    assert "RAS 19, LAS 1" in finding.what
    turned = DataMapping(label_names=NAMES.label_names, orientation="RAS")
    assert report_of(evidence, turned).findings == ()


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"spacing": (1.0, 1.0, 3.0)}, "spacing-outlier", "spacing head-foot 3 mm, usual 1"),
        ({"shape": (40, 50, 120)}, "shape-outlier", "shape head-foot 120 voxels, usual 36"),
        ({"percentiles": (60.0, 900.0, 1500.0)}, "intensity-outlier", "median intensity 900"),
    ],
)
def test_an_outlier_is_named_with_its_value_and_the_usual_one(changes, code: str, said: str) -> None:
    finding = only(with_volume(sound_volumes(), "sub-05", **changes))
    assert (finding.code, finding.samples) == (code, ("sub-05",))
    assert said in finding.what
    assert "robust z-score above 6" in finding.what


def test_a_volume_stored_along_other_axes_is_no_outlier_by_its_shape() -> None:
    evidence = with_volume(sound_volumes(), "sub-05", shape=(36, 40, 50), orientation="SRA")
    assert codes(report_of(evidence)) == ["mixed-orientation"]


def test_a_label_ten_times_too_large_is_named() -> None:
    counts = {"0": 60_000, "1": 15_000, "2": 1400}
    finding = only(with_volume(sound_volumes(), "sub-05", "label", label_voxels=counts))
    assert (finding.code, finding.samples) == ("label-volume-outlier", ("sub-05",))
    assert "label 1 anterior 15 ml" in finding.what


def test_an_image_of_one_value_is_an_error_and_no_duplicate() -> None:
    blank = {"minimum": 7.0, "maximum": 7.0, "voxels": "blank", "shape": (40, 50, 36)}
    evidence = with_volume(with_volume(sound_volumes(), "sub-05", **blank), "sub-06", **blank)
    finding = only(evidence)
    assert (finding.code, finding.severity) == ("constant-image", Severity.ERROR)
    assert finding.samples == ("sub-05", "sub-06")


def test_subjects_without_a_label_or_a_modality_are_named() -> None:
    sound = sound_volumes()
    bare = sample("sub-20", roles=("image",))
    wide = sample("sub-21", roles=("image", "label", "T2w"))
    known = dict(sound.volumes)
    known[bare.key] = {"image": replace(known["sub-00", ""]["image"], voxels="20")}
    known[wide.key] = {
        "image": replace(known["sub-01", ""]["image"], voxels="21"),
        "label": replace(known["sub-01", ""]["label"], voxels="21"),
    }
    report = report_of(with_scan(replace(sound, volumes=known), (*sound.scan.samples, bare, wide)))
    assert {finding.code: finding.count for finding in report.findings} == {"no-modality": 21, "no-label": 1}


def test_what_the_scan_found_is_in_the_report_with_alike_problems_together() -> None:
    problems = tuple(
        DataIssue(
            thing=f"sub-{number}",
            cause=f"the image has shape [{number}, 50, 36] and the label [35, 50, 36]",
            remedy="draw the label on the image's grid, or leave the subject out",
            subject=f"sub-{number}",
        )
        for number in (40, 41, 42)
    )
    evidence = with_scan(sound_volumes(), problems=problems)
    finding = only(evidence)
    assert (finding.severity, finding.count) == (Severity.ERROR, 3)
    assert finding.samples == ("sub-40", "sub-41", "sub-42")
    assert report_of(evidence).counts.left_out == 3
    assert report_of(evidence, leave_out_faulty=True).verdict is Readiness.REMARKS


def test_a_dataset_without_a_sample_is_not_ready() -> None:
    report = report_of(with_scan(sound_volumes(), ()))
    assert codes(report) == ["no-sample"]
    assert report.verdict is Readiness.NOT_READY


def test_label_volumes_are_in_millilitres_of_the_values_that_plans_get() -> None:
    mapping = DataMapping(labels={"2": 1}, label_names={"1": "hippocampus"})
    evidence = with_volume(
        sound_volumes(1), "sub-00", "label", spacing=(2.0, 2.0, 2.0), label_voxels={"1": 40, "2": 60}
    )
    report = report_of(evidence, mapping)
    (label,) = report.labels
    assert (label.value, label.name, label.volume_ml.median) == ("1", "hippocampus", pytest.approx(0.8))
    assert report.label_values == {"1": 1, "2": 1}


@given(st.lists(st.floats(-1, 1), min_size=9, max_size=9))
def test_orientation_codes_are_those_of_nibabel(values: list[float]) -> None:
    turn = np.array(values).reshape(3, 3)
    lengths = np.linalg.norm(turn, axis=0)
    if abs(np.linalg.det(turn)) < 0.2 or min(lengths) < 0.2:
        return
    # An axis halfway between two sides has no one nearest side.
    sizes = np.sort(np.abs(np.linalg.qr(turn)[0]).ravel())
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(turn)[0]
    if np.min(np.diff(sizes)) < 1e-3:
        return
    assert orientation_codes(affine) == "".join(aff2axcodes(affine))
