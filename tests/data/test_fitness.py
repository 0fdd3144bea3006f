from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from archipel.data import (
    Cohort,
    ColumnMapping,
    ColumnSummary,
    DataMapping,
    DataSchema,
    Sample,
    check_needs,
    unmatched_names,
    usable,
)
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


# Labels


def drawn(values, **names):
    """A dataset that holds these label values, and what its own description calls them."""
    known = {key.removeprefix("v"): name for key, name in names.items()}
    return DataSchema(
        kind="volumes",
        subjects=9,
        samples=9,
        modalities={"image": 9},
        label_values=dict.fromkeys(map(str, values), 9),
        label_names=known,
    )


def about_labels(schema, mapping=None, **needed):
    needs = DataNeeds(kind="volumes", labels={key.removeprefix("v"): name for key, name in needed.items()})
    found = check_needs(needs, schema, mapping or DataMapping())
    return [str(one).removeprefix("label ") for one in found if "label" in one.need]


HALVES = {"v1": "anterior", "v2": "posterior"}


def test_a_description_with_the_plans_names_needs_no_word():
    for spelled in ({"v1": "anterior", "v2": "posterior"}, {"v1": "Anterior", "v2": " POSTERIOR"}, {}):
        assert about_labels(drawn((1, 2), **spelled), **HALVES) == ["1 anterior: met", "2 posterior: met"]


def test_a_label_that_the_dataset_has_under_another_number_is_met_by_the_mapping_that_is_named():
    swapped = drawn((1, 2), v1="posterior", v2="anterior")
    assert about_labels(swapped, **HALVES) == [
        "1 anterior: not met (the dataset calls 1 posterior and 2 anterior; map it with labels.2 = 1)",
        "2 posterior: not met (the dataset calls 2 anterior and 1 posterior; map it with labels.1 = 2)",
    ]
    assert about_labels(swapped, DataMapping(labels={"2": 1}), **HALVES) == [
        "1 anterior: met by mapping (from value 1 posterior, 2 anterior)",
        "2 posterior: not met (no sample has value 2; the dataset calls 1 posterior; map it with labels.1 = 2)",
    ]
    assert about_labels(swapped, DataMapping(labels={"2": 1, "1": 2}), **HALVES) == [
        "1 anterior: met by mapping (from value 2 anterior)",
        "2 posterior: met by mapping (from value 1 posterior)",
    ]


def test_a_label_under_a_number_that_no_plan_asks_for_is_named_with_its_mapping():
    assert about_labels(drawn((4, 7), v4="cyst", v7="white_matter"), v1="White matter") == [
        '1 "White matter": not met (no sample has value 1; the dataset calls 7 white_matter; map it with labels.7 = 1)',
        "no other label values: not met (the dataset also has 4 cyst, 7 white_matter; map them to a value the plan "
        "knows, or drop them)",
    ]


def test_another_name_for_the_same_number_is_told_and_a_person_settles_it():
    """A description may be in another language: only its number says whether it is the plan's label."""
    german = drawn((1,), v1="Tumor, solide")
    assert about_labels(german, v1="tumour") == ["1 tumour: met (the dataset calls it Tumor, solide)"]
    settled = DataMapping(label_names={"1": "tumour"})
    assert about_labels(german, settled, v1="tumour") == ["1 tumour: met"]
    other = DataMapping(label_names={"1": "vessel"})
    assert about_labels(german, other, v1="tumour") == ["1 tumour: not met (value 1 is vessel here; map it)"]


def test_a_persons_names_hold_against_the_descriptions():
    schema, names = (
        drawn((1, 2), v1="posterior", v2="anterior"),
        DataMapping(label_names={"1": "anterior", "2": "posterior"}),
    )
    assert about_labels(schema, names, **HALVES) == ["1 anterior: met", "2 posterior: met"]
    turned = DataMapping(label_names={"1": "posterior", "2": "anterior"})
    assert about_labels(drawn((1, 2)), turned, v1="anterior") == [
        "1 anterior: not met (value 1 is posterior here, and 2 anterior; map it with labels.2 = 1)",
        "no other label values: not met (the dataset also has 2; map them to a value the plan knows, or drop them)",
    ]


def test_a_name_that_the_description_has_for_a_value_that_no_sample_holds_is_no_advice():
    assert about_labels(drawn((1,), v1="posterior", v2="anterior"), v1="anterior") == [
        "1 anterior: met (the dataset calls it posterior)"
    ]


def test_a_unit_that_nobody_stated_is_met_and_said():
    """A dataset in another unit, or with a conversion, is another matter."""
    needs = DataNeeds(kind="table", columns=(ColumnNeed(name="age", unit="month"),), target=ColumnNeed(name="y"))

    def answer(unit, rule=None):
        columns = {"age": ColumnSummary(type="number", unit=unit), "y": ColumnSummary(type="number")}
        schema = DataSchema(kind="table", subjects=9, samples=9, columns=columns)
        mapping = DataMapping(columns={"age": rule} if rule else {})
        return str(next(one for one in check_needs(needs, schema, mapping) if one.need.startswith("column age")))

    assert answer("") == "column age in month: met (the dataset does not say its unit)"
    assert answer("month") == "column age in month: met"
    assert "not met (age is in year; give scale" in answer("year")
    assert answer("year", ColumnMapping(scale=12)) == "column age in month: met by mapping"
    assert answer("", ColumnMapping(scale=12)) == "column age in month: met by mapping"
    assert answer("", ColumnMapping(fill=40)) == (
        "column age in month: met by mapping (the dataset does not say its unit)"
    )


def test_names_of_a_mapping_that_a_dataset_does_not_have_are_pointed_out():
    schema = DataSchema(
        kind="volumes",
        samples=2,
        modalities={"t1": 2},
        label_values={"0": 2, "1": 2},
        columns={"years": ColumnSummary(type="number")},
    )
    fits = DataMapping(labels={"1": 2, "0": 0}, modalities={"T1": "t1"}, columns={"age": ColumnMapping(source="years")})
    assert unmatched_names(fits, schema) == ()
    strange = DataMapping(labels={"77": 1, "9": 1}, modalities={"T2": "t2"}, columns={"age": ColumnMapping(scale=12)})
    assert unmatched_names(strange, schema) == (
        "labels.9: no sample has value 9 (there: 0, 1)",
        "labels.77: no sample has value 77 (there: 0, 1)",
        "modalities.T2: the dataset has no image t2 (there: t1)",
        "columns.age: the dataset has no column age (there: years)",
    )
    assert unmatched_names(strange, DataSchema(kind="volumes")) == (), "nobody counted it yet"


def test_needs_are_said_as_people_say_them():
    schema = DataSchema(kind="volumes", subjects=1, samples=1, modalities={"image": 1})
    needs = DataNeeds(kind="volumes", modalities=("image",), minimum_subjects=1)
    said = [str(answer) for answer in check_needs(needs, schema, DataMapping())]
    assert "an image: met" in said and "at least 1 subject: met" in said
