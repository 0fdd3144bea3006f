from __future__ import annotations

from dataclasses import replace

import pytest

from archipel.data.quality import Evidence, Readiness, Severity
from archipel.vocabulary import BadInput
from worlds.evidence import codes, report_of, sample, sound_pictures, sound_rows, with_scan


def changed(evidence: Evidence, subject: str, **values: object) -> Evidence:
    """The evidence after one row has other values; None takes a value away."""
    samples = []
    for one in evidence.scan.samples:
        if one.subject == subject:
            merged = {name: value for name, value in (one.values | values).items() if value is not None}
            one = one.model_copy(update={"values": merged})
        samples.append(one)
    return with_scan(evidence, samples)


def test_a_sound_table_is_ready() -> None:
    report = report_of(sound_rows())
    assert report.findings == ()
    assert report.class_column == "diagnosis"
    assert report.counts.classes == {"ill": 26, "well": 14}


def test_missing_values_are_counted_by_column_and_their_rows_named() -> None:
    evidence = changed(changed(sound_rows(), "p-03", age=None), "p-07", age=None, pressure=None)
    (finding,) = report_of(evidence).findings
    assert finding.code == "missing-values"
    assert "age (2), pressure (1)" in finding.what
    assert (finding.count, finding.samples) == (3, ("p-03", "p-07"))


def test_a_column_that_is_mostly_missing_is_a_finding_of_its_own() -> None:
    evidence = sound_rows()
    for number in range(25):
        evidence = changed(evidence, f"p-{number:02}", cholesterol=None)
    (finding,) = report_of(evidence).findings
    assert finding.code == "column-mostly-missing"
    assert "cholesterol (25)" in finding.what


def test_a_number_with_a_lost_comma_is_named() -> None:
    (finding,) = report_of(changed(sound_rows(), "p-05", pressure=1350.0)).findings
    assert (finding.code, finding.samples) == ("value-outlier", ("p-05",))
    assert "pressure (1350 in p-05; usual" in finding.what


def test_a_column_that_is_mostly_one_value_has_no_outliers() -> None:
    evidence = sound_rows()
    for number in range(40):
        evidence = changed(evidence, f"p-{number:02}", pressure=0.0 if number else 5.0)
    assert codes(report_of(evidence)) == []


def test_a_constant_column_is_a_note_that_leaves_the_dataset_ready() -> None:
    evidence = sound_rows()
    for number in range(40):
        evidence = changed(evidence, f"p-{number:02}", sex="f")
    report = report_of(evidence)
    assert codes(report) == ["constant-column"]
    assert report.verdict is Readiness.READY


def test_equal_rows_under_two_ids_are_named() -> None:
    evidence = sound_rows()
    twin = next(one for one in evidence.scan.samples if one.subject == "p-04")
    (finding,) = report_of(changed(evidence, "p-09", **twin.values)).findings
    assert (finding.code, finding.samples) == ("duplicate-rows", ("p-04", "p-09"))


def test_a_small_class_is_named() -> None:
    evidence = sound_rows()
    for number in range(40):
        evidence = changed(evidence, f"p-{number:02}", diagnosis="ill" if number else "well")
    (finding,) = report_of(evidence).findings
    assert finding.code == "class-imbalance"
    assert "well (1)" in finding.what


def test_a_single_class_is_named() -> None:
    evidence = sound_rows()
    for number in range(40):
        evidence = changed(evidence, f"p-{number:02}", diagnosis="ill")
    assert codes(report_of(evidence)) == ["one-class"]


def test_columns_are_compared_by_the_class_that_is_asked_for() -> None:
    report = report_of(sound_rows(), class_column="sex")
    ages = next(column for column in report.columns if column.name == "age")
    assert {name: sum(counts) for name, counts in ages.histogram.counts.items()} == {"f": 20, "m": 20}
    with pytest.raises(BadInput, match="is not in the dataset"):
        report_of(sound_rows(), class_column="weight")


def test_every_number_is_in_one_bar_of_its_histogram() -> None:
    for column in report_of(sound_rows()).columns:
        if column.histogram is not None:
            assert sum(map(sum, column.histogram.counts.values())) == 40
            assert len(column.histogram.edges) == len(next(iter(column.histogram.counts.values()))) + 1


def test_sessions_and_groups_are_counted_by_subject() -> None:
    visits = [sample("a", "1", group="control"), sample("a", "2", group="control"), sample("b", "1", group="disease")]
    evidence = with_scan(Evidence("table", sound_rows().scan), visits)
    counts = report_of(evidence).counts
    assert counts.sessions == {"1": 1, "2": 1}
    assert counts.groups == {"control": 1, "disease": 1}


def test_sound_pictures_are_ready_and_counted_by_class() -> None:
    report = report_of(sound_pictures())
    assert report.findings == ()
    assert report.counts.classes == {"0": 15, "1": 15}


@pytest.mark.parametrize(
    ("other", "found"),
    [("x-05", ["duplicate-across-subjects", "duplicate-with-other-class"]), ("x-06", ["duplicate-across-subjects"])],
)
def test_the_same_picture_under_two_ids_is_an_error_and_worse_in_two_classes(other: str, found: list[str]) -> None:
    sound = sound_pictures()
    twin = sound.arrays["x-04", ""]
    copied = replace(sound.arrays[other, ""], pixels=twin.pixels)
    report = report_of(replace(sound, arrays=dict(sound.arrays) | {(other, ""): copied}))
    assert codes(report) == found
    assert all(finding.severity is Severity.ERROR for finding in report.findings)
    assert report.findings[0].samples == ("x-04", other)
