"""Names of one patient's visits, and the patterns that find patient and visit in them."""

from __future__ import annotations

import re

import pytest

from archipel.data.visit_names import shared_names, without_visits


def found(pattern: str, name: str) -> str:
    match = re.search(pattern, name)
    assert match is not None, (pattern, name)
    return match[1] if match.re.groups else match[0]


VISITS = [
    (["P00_20200101", "P00_20210101", "P01_20200101"], "a date"),
    (["P00_2020-01-01", "P00_2021-01-01", "P01_2020-01-01", "P02"], "a date"),
    (["P00-20200101", "P00-20210101", "P01-20200101"], "a date"),
    (["P00_L", "P00_R", "P01_L", "P01_R"], "a side"),
    (["left_P00", "right_P00", "left_P01", "right_P01"], "a side"),
    (["case_3_OD", "case_3_OS", "case_4_OD"], "a side"),
    (["OAS2_0001_MR1", "OAS2_0001_MR2", "OAS2_0002_MR1"], "a visit"),
    (["P00_baseline", "P00_followup1", "P01_baseline"], "a visit"),
    (["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"], "a visit"),
    (["patient001_frame01", "patient001_frame12", "patient002_frame01"], "a visit"),
    (["P00_20200101_ct", "P00_20210101_ct", "P1_20200101_ct"], "a date"),
    (["P00_20200101_L", "P00_20200101_R", "P00_20210101_L", "P01_20200101_L"], "a date and a side"),
    (["P00 pre", "P00 post", "P1 pre"], "a visit"),
    (["P00.20200101", "P00.20210101", "P01.20200101"], "a date"),
    (["a_b_c_d_e_P1_L", "a_b_c_d_e_P1_R", "b_P2_L"], "a side"),
    (["P00_20200101", "P00_20210101"], "a date"),
]


@pytest.mark.parametrize(("names", "apart"), VISITS)
def test_the_patterns_find_each_patient_and_each_visit(names: list[str], apart: str) -> None:
    shared = shared_names(names)
    assert shared is not None and shared.apart == apart and shared.names == len(names)
    assert len(shared.examples) > 1 and shared.subject and shared.session
    patients = {name: found(shared.subject, name) for name in names}
    bases = {name: without_visits(name) for name in names}
    assert len(set(patients.values())) == len(set(bases.values())) == shared.patients
    assert len({(patients[name], bases[name]) for name in names}) == shared.patients
    assert len({(patients[name], found(shared.session, name)) for name in names}) == len(names)


@pytest.mark.parametrize(
    "names",
    [
        ["hippocampus_001", "hippocampus_002"],
        ["BraTS20_Training_001", "BraTS20_Training_002"],
        ["la_007", "la_008"],
        ["m1", "m2"],
        ["study_m1", "study_m2"],
        ["left", "right"],
        ["sub-L", "sub-R"],
        ["1.2.840.113619.1", "1.2.840.113619.2"],
        ["P00_20200101", "P01_20200101"],
        ["P00_99999999", "P00_88888888"],
        ["train-00001", "train-00002"],
        ["IXI012-HH-1211-T1", "IXI013-HH-1212-T1"],
        [],
    ],
)
def test_names_of_different_patients_are_not_asked_about(names: list[str]) -> None:
    assert shared_names(names) is None
