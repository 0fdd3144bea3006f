from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data import Cohort, Sample, cohort_hash, draw, validation_ids

IDS = st.sets(st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=12), max_size=40)
FRACTIONS = st.floats(0, 0.95)
KEY = b"0123456789abcdef"


@given(IDS, FRACTIONS, st.randoms(use_true_random=False))
def test_the_split_does_not_depend_on_order(ids, fraction, shuffler: random.Random):
    ordered = sorted(ids)
    shuffled = list(ordered)
    shuffler.shuffle(shuffled)
    assert validation_ids(ordered, fraction) == validation_ids(shuffled, fraction)


@given(IDS, IDS, FRACTIONS)
def test_new_patients_move_nobody_whose_draw_decides(ids, added, fraction):
    """Only the one subject that keeps a side from being empty may move when others come."""
    before, after = validation_ids(ids, fraction), validation_ids(ids | added, fraction)
    moved = before.symmetric_difference(after) & ids
    assert len(moved) <= 1
    for subject in moved:
        lonely = all(draw(one) >= fraction for one in ids) or all(draw(one) < fraction for one in ids)
        lonely = lonely or all(draw(one) < fraction for one in ids | added)
        assert lonely, f"{subject} moved although both sides had subjects"


@given(IDS, FRACTIONS)
def test_somebody_always_trains_and_somebody_validates_where_two_are(ids, fraction):
    held_out = validation_ids(ids, fraction)
    assert held_out <= ids
    assert not ids or held_out != ids
    assert bool(held_out) == (fraction > 0 and len(ids) >= 2) or len(ids) < 2


def test_the_draws_of_the_split_never_change():
    """Frozen values: another formula would train on yesterday's validation patients."""
    assert round(draw("hippocampus_001"), 12) == 0.977424121576
    assert round(draw("sub-07"), 12) == 0.196730612797


def test_the_fraction_is_met_on_many_subjects():
    chosen = validation_ids((f"patient-{n}" for n in range(10_000)), 0.2)
    assert 0.18 < len(chosen) / 10_000 < 0.22


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match="validation fraction"):
        validation_ids(["a", "b"], fraction)


def subjects(*ids):
    return tuple(
        Sample(subject=one, files={"image": f"images/{one}.nii.gz"}, hash="blake3:" + f"{n:064x}")
        for n, one in enumerate(ids)
    )


def test_a_cohorts_hash_ignores_order_and_follows_content_and_key():
    cohort = Cohort(dataset="brains", format="nifti-pairs", samples=subjects("a", "b"))
    same = Cohort(dataset="brains", format="nifti-pairs", samples=tuple(cohort.samples)[::-1])
    assert cohort_hash(cohort, KEY) == cohort_hash(same, KEY)
    assert cohort_hash(cohort, KEY) != cohort_hash(cohort, KEY[::-1])
    assert cohort_hash(cohort, KEY) != cohort_hash(cohort.without(frozenset({"a"})), KEY)
    changed = cohort.samples[0].model_copy(update={"hash": "blake3:" + "f" * 64})
    other = Cohort(dataset="brains", format="nifti-pairs", samples=(changed, *cohort.samples[1:]))
    assert cohort_hash(cohort, KEY) != cohort_hash(other, KEY)
    with pytest.raises(ValueError, match="16 bytes"):
        cohort_hash(cohort, b"short")


def test_a_cohort_names_each_subject_once():
    with pytest.raises(ValueError, match="session once"):
        Cohort(dataset="brains", format="nifti-pairs", samples=subjects("a", "a"))


@given(IDS, FRACTIONS)
def test_a_cohorts_own_list_decides_who_validates_and_the_draws_where_it_has_none(ids, fraction):
    drawn = Cohort(dataset="brains", format="nifti-pairs", samples=subjects(*sorted(ids)))
    assert drawn.held_out(fraction) == validation_ids(ids, fraction)
    for listed in (tuple(sorted(ids))[:2], ()):
        settled = drawn.model_copy(update={"validation": listed})
        assert settled.held_out(fraction) == frozenset(listed)
