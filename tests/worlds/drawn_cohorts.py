"""Samples and cohorts drawn at random, with every field that they may have."""

from __future__ import annotations

from hypothesis import strategies as st

from archipel.data import Cohort, Sample

IDS = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), min_size=1, max_size=12)
HASHES = st.builds(
    "{}:{}".format, st.sampled_from(["blake3", "sha256"]), st.text("0123456789abcdef", min_size=64, max_size=64)
)
VALUES = st.dictionaries(
    st.sampled_from(["age", "split", "é", 'a"b']),
    st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False) | IDS,
)
FILES = st.dictionaries(st.sampled_from(["image", "label", "T1"]), IDS, max_size=2)


@st.composite
def samples(draw: st.DrawFn, most: int = 6) -> tuple[Sample, ...]:
    """Samples of different subjects and sessions, in any order."""
    keys = draw(st.lists(st.tuples(IDS, st.just("") | IDS), max_size=most, unique=True))
    return tuple(
        Sample(
            subject=subject,
            session=session,
            files=draw(FILES),
            row=draw(st.none() | st.integers(0, 2**40)),
            values=draw(VALUES),
            missing=tuple(draw(st.lists(IDS, max_size=2))),
            channels=draw(st.dictionaries(st.sampled_from(["T1", "T2"]), st.integers(0, 3))),
            hash=draw(HASHES),
            file_hashes=draw(st.dictionaries(st.sampled_from(["image", "label"]), HASHES)),
        )
        for subject, session in keys
    )


@st.composite
def cohorts(draw: st.DrawFn) -> Cohort:
    """A cohort of such samples, some of whose subjects may validate and have pseudonyms."""
    found = draw(samples())
    subjects = sorted({one.subject for one in found})
    some = st.lists(st.sampled_from(subjects), unique=True) if subjects else st.just([])
    return Cohort(
        dataset="drawn",
        version=draw(st.integers(1, 3)),
        format="nifti-pairs",
        samples=found,
        validation=draw(st.none() | some.map(tuple)),
        validation_fraction=draw(st.none() | st.just(0.25)),
        pseudonyms={subject: f"p-{number}" for number, subject in enumerate(draw(some))},
    )
