"""Golden values: splits, cohort hashes, tokens and seeds are protocol; another version must give the same ones."""

from __future__ import annotations

from archipel.data import Cohort, Sample, cohort_hash, draw, pseudonym, subject_token, validation_ids
from archipel.plans import derive_seed

KEY = bytes(range(32))
HASH = "blake3:" + "7" * 64

DRAWS = [0.4961999200909571, 0.4006087493809604, 0.30083943632544785]
HELD_OUT = ["sub-07", "sub-10", "sub-12", "sub-19"]
COHORT = "sha256:72a92eadfbc99ef370954e483c79a2255f7cfb23ca4e08fa8679e257a32fe5d8"
TOKEN = "96ace2310ae725eccf437419e13c3a0f371b08496b940d58892c49350ff17cb7"
PSEUDONYM = "p-b03ec608107c0c153d628b85"
SEEDS = [3511779706485138546, 5486197175524591526, 4611999974320043324]


def cohort() -> Cohort:
    samples = [
        Sample(
            subject=name,
            session=session,
            hash=HASH,
            files={"image": f"{name}{session}.nii.gz"},
            file_hashes={"image": HASH},
        )
        for name, session in (("sub-02", ""), ("sub-01", "b"), ("sub-01", "a"), ("Jürg", ""))
    ]
    return Cohort(dataset="brain", format="nifti-pairs", samples=tuple(samples))


def test_the_split_is_the_golden_one() -> None:
    assert [draw(name) for name in ("sub-01", "sub-02", "Jürg")] == DRAWS
    assert sorted(validation_ids((f"sub-{number:02d}" for number in range(20)), 0.2)) == HELD_OUT


def test_the_cohort_hash_and_the_tokens_under_a_fixed_key_are_the_golden_ones() -> None:
    assert cohort_hash(cohort(), KEY) == COHORT
    assert subject_token("Jürg", KEY) == TOKEN
    assert pseudonym("Jürg", KEY) == PSEUDONYM


def test_the_seeds_are_the_golden_ones() -> None:
    assert [derive_seed(0), derive_seed(7, "site-a", 3), derive_seed(7, "site-a", 3, "augmentation")] == SEEDS
