"""Golden values: splits, cohort hashes, tokens and seeds are protocol; another version must give the same ones."""

from __future__ import annotations

import hashlib
import hmac

import rfc8785
from hypothesis import given

from archipel.data import Cohort, Sample, cohort_hash, draw, pseudonym, subject_token, validation_ids
from archipel.data.cohorts import cohort_of, pieces
from archipel.plans import derive_seed
from worlds.drawn_cohorts import cohorts

KEY = bytes(range(32))
HASH = "blake3:" + "7" * 64

DRAWS = [0.4961999200909571, 0.4006087493809604, 0.30083943632544785]
HELD_OUT = ["sub-07", "sub-10", "sub-12", "sub-19"]
COHORT = "sha256:160cb23d4757cace04470ef7b05b7ea894a21c9351bebaaf22ec7a791d0fa84e"
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


def by_the_definition(cohort: Cohort, key: bytes) -> str:
    """The hash as docs/decisions/0008 defines it, from records and with nothing of the code that it checks."""

    def listed(lines: list[bytes]) -> dict[str, object]:
        return {"count": len(lines), "sha256": hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()}

    document = cohort.model_dump(mode="json", exclude_defaults=True)
    samples = sorted(cohort.samples, key=lambda one: (one.subject, one.session))
    dumped = [one.model_dump(mode="json", exclude_defaults=True) for one in samples]
    document["samples"] = listed([rfc8785.dumps(one) for one in dumped])
    if cohort.validation is not None:
        document["validation"] = listed([rfc8785.dumps(one) for one in sorted(cohort.validation)])
    if cohort.pseudonyms:
        document["pseudonyms"] = listed([rfc8785.dumps(list(pair)) for pair in sorted(cohort.pseudonyms.items())])
    message = b"archipel-cohort/2\0" + rfc8785.dumps(document)
    return "sha256:" + hmac.new(key, message, hashlib.sha256).hexdigest()


@given(cohorts())
def test_the_cohort_hash_is_what_its_definition_says(cohort: Cohort) -> None:
    assert cohort_hash(cohort, KEY) == by_the_definition(cohort, KEY)
    assert cohort_hash(cohort_of(pieces(cohort)), KEY) == by_the_definition(cohort, KEY)


def test_the_seeds_are_the_golden_ones() -> None:
    assert [derive_seed(0), derive_seed(7, "site-a", 3), derive_seed(7, "site-a", 3, "augmentation")] == SEEDS
