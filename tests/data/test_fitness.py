from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from archipel.data import Cohort, ColumnMapping, ColumnSummary, DataMapping, DataSchema, Sample, check_needs, usable
from archipel.data.samples import Gap
from archipel.vocabulary import ColumnNeed, DataNeeds

NEEDS = DataNeeds(
    kind="table", columns=(ColumnNeed(name="age"), ColumnNeed(name="weight")), target=ColumnNeed(name="y")
)
STORED = ("alter", "weight", "y", "unasked")
GAPS = st.lists(st.frozensets(st.sampled_from(STORED)), min_size=1, max_size=30)


def rows(gaps):
    return tuple(
        Sample(subject=f"p{n}", files={"table": "t.csv"}, hash=f"blake3:{n:064x}", missing=tuple(sorted(gap)))
        for n, gap in enumerate(gaps)
    )


def schema_of(samples):
    gaps = Counter(one.missing for one in samples if one.missing)
    columns = {
        name: ColumnSummary(type="number", missing=sum(name in one.missing for one in samples)) for name in STORED
    }
    return DataSchema(
        kind="table",
        subjects=len(samples),
        samples=len(samples),
        columns=columns,
        gaps=tuple(Gap(columns=together, samples=count) for together, count in sorted(gaps.items())),
    )


@given(GAPS, st.booleans())
def test_as_many_samples_are_said_to_be_left_out_as_a_plan_does_not_get(gaps, weight_is_filled):
    columns = {"age": ColumnMapping(source="alter")} | ({"weight": ColumnMapping(fill=70)} if weight_is_filled else {})
    mapping = DataMapping(columns=columns, drop_incomplete=True)
    assert mapping.required_columns(NEEDS) == {"alter", "y"} | (set() if weight_is_filled else {"weight"})
    samples = rows(gaps)
    cohort = Cohort(dataset="data", format="table", samples=samples, mapping=mapping)
    left_out = len(samples) - len(usable(cohort, NEEDS).samples)
    said = next(one for one in check_needs(NEEDS, schema_of(samples), mapping) if "subjects" in one.need).why
    assert left_out == sum(bool(gap & mapping.required_columns(NEEDS)) for gap in gaps)
    assert said.startswith(f"{left_out} of {len(samples)} samples") if left_out else "left out" not in said


def test_without_the_option_every_sample_is_given_and_the_need_is_not_met():
    samples = rows([{"alter"}, set()])
    mapping = DataMapping(columns={"age": ColumnMapping(source="alter")})
    cohort = Cohort(dataset="data", format="table", samples=samples, mapping=mapping)
    assert usable(cohort, NEEDS) == cohort
    assert [one.need for one in check_needs(NEEDS, schema_of(samples), mapping) if one.verdict == "not met"] == [
        "column age"
    ]
