"""Which ids of other datasets may be a patient's, by the words and numbers in them."""

from __future__ import annotations

import pytest

from archipel.data import OtherSpellings

ALIKE = [
    ("P007", "p-7"),
    ("P007", "sub-P007"),
    ("P007", "7.0"),
    ("P007", "site_P007"),
    ("site_P007", "P-7"),
    ("site_P007", "sub-7"),
    ("P007", "P007_20200101"),
    ("P007_L", "P007_R"),
    ("7", "patient0007"),
    ("M\u00fcller", "mu\u0308ller"),
    ("mueller_7", "mueller"),
    ("\uff11", "01"),
    ("0", "sub-00"),
    ("sub007", "7"),
    ("S1_P007_T1", "p7"),
]
UNLIKE = [
    ("P007", "P0070"),
    ("P7", "S7"),
    ("P07", "P17"),
    ("hippocampus_001", "prostate_001"),
    ("1", "site1_P2"),
    ("1", "1.2.840.113619.5"),
    ("20200101", "P007_20200101"),
    ("P", "P007"),
    ("p-0O2", "p-000"),
    ("P007a", "P007"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_an_id_may_be_the_other_whichever_is_asked_for(one: str, other: str) -> None:
    assert list(OtherSpellings([one]).among([other, one])) == [(one, other)]
    assert list(OtherSpellings([other]).among([other, one])) == [(other, one)]


@pytest.mark.parametrize(("one", "other"), UNLIKE)
def test_an_id_that_shares_only_a_part_is_another(one: str, other: str) -> None:
    assert not list(OtherSpellings([one]).among([other]))
    assert not list(OtherSpellings([other]).among([one]))


def test_many_patients_are_looked_for_at_once() -> None:
    asked = [f"P{number:03}" for number in range(300)]
    found = list(OtherSpellings(asked).among(f"sub-{number}" for number in range(250, 350)))
    assert found == [(f"P{number:03}", f"sub-{number}") for number in range(250, 300)]
    assert not list(OtherSpellings([]).among(asked))
