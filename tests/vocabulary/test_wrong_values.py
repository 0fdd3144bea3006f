"""A record that a person writes by hand says in the product's words what is wrong with it, and never in pydantic's."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

import archipel
from archipel import (
    Baselines,
    DataNeeds,
    GpuTerms,
    HyperParameter,
    MetricSpec,
    Patience,
    Selection,
    VirtualSites,
    WorkerLimits,
)
from archipel.vocabulary import BadInput, ErrorCode
from archipel.vocabulary.records import Record
from archipel.vocabulary.wrong_values import BadTerms, Terms

WRONG = [
    (lambda: GpuTerms(*[12288]), "GpuTerms(12288): takes each value by its name; write GpuTerms(memory_mb=12288)"),
    (lambda: GpuTerms(memory_mb="much"), "GpuTerms, memory_mb='much': is not a whole number; give a whole number"),
    (lambda: GpuTerms(memory_mb=1), "GpuTerms, memory_mb=1: is too small; give at least 256"),
    (lambda: GpuTerms(**{"memory": 1}), "GpuTerms, memory: is not a field here; did you mean memory_mb?"),
    (lambda: GpuTerms(required="maybe"), "GpuTerms, required='maybe': is not True or False; give True or False"),
    (
        lambda: DataNeeds(kind="table", columns="age"),
        'DataNeeds, columns=\'age\': is not a list; give a list, such as ["a", "b"]; of one item: ["a"]',
    ),
    (
        lambda: DataNeeds(kind="table", columns=["age"]),
        "DataNeeds, columns.0='age': is not a ColumnNeed; give ColumnNeed(...)",
    ),
    (
        lambda: DataNeeds(kind="volumes", labels={1: "a"}),
        "DataNeeds, labels.a key=1: is not a text; give a text between quotation marks",
    ),
    (
        lambda: VirtualSites(by="wrong"),
        "VirtualSites, by='wrong': is not one of the values that it can have; "
        "give 'site-column', 'label', 'quantity' or 'feature'",
    ),
    (lambda: Selection(**{"metric": "dice"}), "Selection, better: is missing; give better=..."),
    (
        lambda: MetricSpec(name="a b", better="higher"),
        "MetricSpec, name='a b': is not a name; use letters, digits, and the signs _ . -, at most 63, the first a "
        "letter or _",
    ),
    (
        lambda: HyperParameter(name="rate", kind="float", default=[1]),
        "HyperParameter, default=[1]: is not a value that it can have; give True or False, a number or a text",
    ),
    (
        lambda: Baselines(ensemble=True),
        "Baselines: baseline ensemble needs baseline local: the ensemble is made of the local models; "
        "give local=True too",
    ),
    (lambda: Patience(metric="dice", rounds=0), "Patience, rounds=0: is too small; give at least 1"),
    (lambda: WorkerLimits(cpu_s=float("nan")), "WorkerLimits, cpu_s=nan: is not a finite number; give a finite number"),
]


@pytest.mark.parametrize(("make", "words"), WRONG, ids=[words.partition(":")[0] for _, words in WRONG])
def test_a_wrong_value_is_one_sentence_with_a_remedy(make: Callable[[], object], words: str) -> None:
    with pytest.raises(BadInput) as refused:
        make()
    assert str(refused.value) == words
    assert refused.value.code is ErrorCode.BAD_INPUT and refused.value.__cause__ is None
    assert str(pickle.loads(pickle.dumps(refused.value))) == words


def test_every_record_that_researchers_write_is_of_this_kind() -> None:
    public = [getattr(archipel, name) for name in archipel.__all__]
    records = {one.__name__ for one in public if isinstance(one, type) and issubclass(one, Record)}
    # Sums are made from numbers of a plan: what is wrong with them is an error of the plan's, with its line.
    assert {name for name in records if not issubclass(getattr(archipel, name), Terms)} == {"MetricSum"}


def test_a_record_within_a_record_is_checked_as_before() -> None:
    with pytest.raises(BadTerms, match=r"DataNeeds, target\.name='a b': is not a name; use letters"):
        DataNeeds(kind="arrays", target={"name": "a b"})
    with pytest.raises(ValueError, match=r"validation error for GpuTerms"):
        GpuTerms.model_validate({"memory_mb": 1})
