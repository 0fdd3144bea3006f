"""A job that continues another one: what the site knows of the model, and what differs from the job approved before."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_attempts_at_a_stage import Stages

from archipel.governance import job_hash
from archipel.site.approval import differences, job_differences, offers, suitability
from archipel.site.approval.job_differences import MOST_LINES
from archipel.site.datasets import catalog
from archipel.site.services import explanations
from archipel.site.state.folder import StateFolder
from archipel.tensors import blob_hash
from archipel.vocabulary import (
    Baselines,
    HyperParameter,
    Job,
    MetricSpec,
    ModelFile,
    OptimiserState,
    ParentModel,
    PlanReference,
    RosterEntry,
    RoundTerms,
    TensorSchema,
    TensorSpec,
)
from archipel.vocabulary.partition import FrozenPart
from worlds.people import approve
from worlds.site import PLAN, SERVER, Terminal, job_for, take_offer

MADE, FORGED = blob_hash(b"made by round 1"), blob_hash(b"the attacker's choice")
NOWHERE: Any = SimpleNamespace(name="charite", identity=SERVER)
STARTS, DIFFERS = "Which model does it start from?", "What differs from what was approved before?"


@pytest.fixture
def parent(with_table: StateFolder) -> Job:
    """Experiment "heart", approved, of which this site has the signed result of round 1."""
    stages = Stages(with_table)
    approve(with_table, "heart")
    stages.done(1, stages.job.initial_model, MADE)
    return stages.job


def lineage_of(parent: Job, **changes: Any) -> ParentModel:
    said = {"experiment": parent.experiment, "job_hash": job_hash(parent), "model": "last", "round": 1}
    return ParentModel.model_validate({**said, **changes})


def explained(site: StateFolder, **changes: Any) -> dict[str, str]:
    """The answers about a new offer "heart-2"."""
    take_offer(site, experiment="heart-2", **changes)
    return dict(explanations.explain(site, offers.offered(site.database, "heart-2")))


def test_a_site_that_has_the_signed_result_confirms_the_model(with_table: StateFolder, parent: Job) -> None:
    said = explained(with_table, initial_model=MADE, lineage=lineage_of(parent))
    assert said[STARTS] == (
        f"It continues heart, last, after round 1, of job {job_hash(parent)}. This site can prove that it is "
        "this model, by the server's signed result of round 1."
    )
    assert "What prevents it?" not in said


@pytest.mark.parametrize(
    ("initial", "changes"),
    [
        (FORGED, {}),
        (FORGED, {"model": "best"}),
        (MADE, {"experiment": "lungs"}),
        (MADE, {"round": 4}),
        (FORGED, {"round": 0, "model": "best"}),
    ],
    ids=["another model", "named best", "another experiment", "a round that the job has not", "another start"],
)
def test_a_forged_lineage_is_said_and_cannot_be_approved(
    with_table: StateFolder, parent: Job, initial: str, changes: dict[str, Any]
) -> None:
    said = explained(with_table, initial_model=initial, lineage=lineage_of(parent, **changes))
    assert "WARNING: this is not true, by the" in said[STARTS]
    assert "it says that it continues" in said["What prevents it?"]
    refused = Terminal(with_table.folder)("approve", "heart-2", "--yes")
    assert refused.exit_code != 0 and "which is not true, by the" in str(refused.exception)
    entry, job = catalog.dataset(with_table.database, "table"), offers.offered(with_table.database, "heart-2").job
    assert len(suitability.reasons_against(with_table, job, entry)) == 1


def frozen(content: bytes) -> FrozenPart:
    tensors = TensorSchema.of([TensorSpec(name="backbone", dtype="float32", shape=(4,))])
    return FrozenPart(tensors=tensors, blob=blob_hash(content))


@pytest.fixture
def parent_in_parts(with_table: StateFolder) -> Job:
    """As ``parent``, and a part of the model is frozen."""
    stages = Stages(with_table, frozen=frozen(b"frozen"))
    approve(with_table, "heart")
    stages.done(1, stages.job.initial_model, MADE)
    return stages.job


@pytest.mark.parametrize("part", [frozen(b"the attacker's choice"), None], ids=["another", "none"])
@pytest.mark.parametrize("round_", [0, 1])
def test_a_lineage_with_another_frozen_part_cannot_be_approved(
    with_table: StateFolder, parent_in_parts: Job, part: FrozenPart | None, round_: int
) -> None:
    start = {"initial_model": MADE if round_ else parent_in_parts.initial_model}
    lineage = lineage_of(parent_in_parts, round=round_, model="last" if round_ else "best")
    said = explained(with_table, **start, lineage=lineage, frozen=part)
    proof = "by the job with this hash, which this site has and which freezes another part of the model"
    assert f"WARNING: this is not true, {proof}." in said[STARTS]
    assert f"which is not true, {proof}" in said["What prevents it?"]


def test_a_lineage_with_the_same_frozen_part_is_confirmed(with_table: StateFolder, parent_in_parts: Job) -> None:
    both = {"initial_model": MADE, "frozen": parent_in_parts.frozen}
    assert "This site can prove that it is this model" in explained(
        with_table, **both, lineage=lineage_of(parent_in_parts))[STARTS]  # fmt: skip


@pytest.mark.parametrize(("part", "words"), [(None, "can prove that it is"), (frozen(b"f"), "does not have that job")])
def test_a_result_without_its_job_proves_nothing_of_a_frozen_part(
    with_table: StateFolder, parent: Job, part: FrozenPart | None, words: str
) -> None:
    # The experiment's job is another one by now; the results of the one before are still in the journal.
    take_offer(with_table, seed=7)
    said = explained(with_table, initial_model=MADE, lineage=lineage_of(parent), frozen=part)
    assert words in said[STARTS] and "WARNING" not in said[STARTS]


def test_the_start_of_a_known_job_is_confirmed(with_table: StateFolder, parent: Job) -> None:
    about = lineage_of(parent, round=0, model="best")
    said = explained(with_table, initial_model=parent.initial_model, lineage=about)
    assert "the model that it started from" in said[STARTS]
    assert "This site can prove that it is this model, by the job" in said[STARTS]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"round": 2}, "This site has that job but no signed result of that round, so it cannot know"),
        (
            {"job_hash": "sha256:" + "7" * 64},
            "This site does not have that job, so it cannot know",
        ),
    ],
)
def test_a_site_says_what_it_cannot_know(
    with_table: StateFolder, parent: Job, changes: dict[str, Any], words: str
) -> None:
    said = explained(with_table, initial_model=FORGED, lineage=lineage_of(parent, **changes))
    assert words in said[STARTS] and "WARNING" not in said[STARTS] and "What prevents it?" not in said


def test_a_file_is_said_to_be_unknown_and_no_lineage_is_not_mentioned(with_table: StateFolder) -> None:
    said = explained(with_table, initial_model=FORGED, lineage=ModelFile(file=FORGED))
    assert said[STARTS] == f"From a file of the researcher ({FORGED}). This site cannot know what it was trained on."
    assert STARTS not in explained(with_table)


def test_an_optimisers_state_is_said_not_to_be_taken_over(with_table: StateFolder, parent: Job) -> None:
    kept = {"initial_model": MADE, "optimiser_state": OptimiserState.CONTINUE_LOCAL}
    said = explained(with_table, **kept, lineage=lineage_of(parent))
    assert said[STARTS].endswith("The state that an optimiser kept here then is not taken over.")


def test_only_what_differs_is_listed(with_table: StateFolder, parent: Job) -> None:
    mayo = RosterEntry(site="mayo", identity_key=SERVER.public, dataset="rows")
    roster = (*parent.roster, mayo)
    text = PLAN + b"    # one more\n    # and one\n"
    with_table.blobs.put(text)
    said = explained(
        with_table, initial_model=MADE, lineage=lineage_of(parent), roster=roster,
        terms=RoundTerms(rounds=20, quorum=2), arguments={"rate": 0.5},
        plan=PlanReference(files={"tiny.py": blob_hash(text)}, entry="tiny.py", class_name="Tiny"),
    )  # fmt: skip
    head, *lines = said[DIFFERS].split("\n")
    assert head.startswith(f"Compared with heart (job {job_hash(parent)}), approved here on 20")
    assert lines == [
        "- quorum: 1 -> 2",
        "- rounds: 3 -> 20",
        "- sites: mayo added",
        "- plan file tiny.py changed: 2 lines added, 0 lines removed",
        "- values at the start, rate: 0.1 -> 0.5",
        "- nothing else differs but the experiment's name and the model that it starts from",
    ]


def test_a_continued_job_with_nothing_new_says_so(with_table: StateFolder, parent: Job) -> None:
    said = explained(with_table, initial_model=MADE, lineage=lineage_of(parent))
    last = said[DIFFERS].split("\n")[1:]
    assert last == ["- nothing differs but the experiment's name and the model that it starts from"]


def test_what_was_never_approved_is_not_compared_with(with_table: StateFolder) -> None:
    stages = Stages(with_table)
    assert DIFFERS not in explained(with_table, initial_model=MADE, lineage=lineage_of(stages.job))


def test_the_newest_like_job_of_the_same_asker_is_compared_with(with_table: StateFolder) -> None:
    for number, asker in ((1, "anna"), (2, "anna"), (3, "bert")):
        job = job_for(with_table, experiment=f"old-{number}", seed=number)
        with_table.blobs.put(PLAN)
        offers.record(with_table, job, asker)
        approve(with_table, f"old-{number}")
    offers.record(with_table, job_for(with_table, experiment="new", seed=9), "anna")
    said = dict(explanations.explain(with_table, offers.offered(with_table.database, "new")))
    assert said[DIFFERS].startswith("Compared with old-2 ")
    assert said[DIFFERS].split("\n")[1:] == ["- seed: 2 -> 9", "- nothing else differs but the experiment's name"]


CHANGED: dict[str, Any] = {
    "title": "another", "description": "another", "plan": {"class_name": "Other"}, "seed": 7,
    "tensors": TensorSchema.of([TensorSpec(name="w", dtype="float32", shape=(4,))]),
}  # fmt: skip


@pytest.mark.parametrize("field", sorted(Job.model_fields.keys() - {"experiment", "initial_model", "lineage"}))
def test_every_field_of_a_job_is_compared(field: str) -> None:
    """A field that a later version adds too: the last line says that nothing else differs."""
    before = job_for(NOWHERE)
    other = CHANGED.get(field, "another")
    if field == "plan":
        other = before.plan.model_copy(update=other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        lines = differences(before, before.model_copy(update={field: other}))
    assert len(lines) == 2 and lines[-1] == "nothing else differs"
    assert differences(before, before) == ["nothing differs"]


def test_what_is_inside_a_field_is_named() -> None:
    before = job_for(NOWHERE)
    after = before.model_copy(
        update={
            "metrics": (MetricSpec(name="loss", better="lower", counts="lesion", largest_weight=9),
                        MetricSpec(name="dice", better="higher")),
            "validation": (),
            "baselines": Baselines(local=True),
            "needs": before.needs.model_copy(update={"minimum_subjects": 1200, "labels": {"3": "liver\nyes"}}),
        }
    )  # fmt: skip
    assert differences(before, after)[:-1] == [
        "baselines, local: no -> yes",
        "metrics of training: dice added",
        "metrics of training, loss counts: sample -> lesion",
        "metrics of training, loss largest_weight: none -> 9",
        "what the plan needs of the data: labels 3 added",
        "what the plan needs of the data, minimum_subjects: 2 -> 1,200",
        "metrics of validation: accuracy removed",
    ]


def test_names_of_others_cannot_forge_a_line_and_long_lists_end() -> None:
    before = job_for(NOWHERE)
    files = {f"module{number}.py": blob_hash(b"x") for number in range(60)}
    plan = PlanReference(files={**before.plan.files, **files}, entry="tiny.py", class_name="Tiny")
    lines = differences(before, before.model_copy(update={"plan": plan}))
    assert len(lines) == MOST_LINES + 1 and lines[-1] == "and 20 more differences"
    forged = before.needs.model_copy(update={"labels": {"1": "liver\n- nothing else differs"}})
    changed = differences(before.model_copy(update={"needs": before.needs.model_copy(update={"labels": {"1": "a"}})}),
                          before.model_copy(update={"needs": forged}))  # fmt: skip
    assert changed == [
        r'what the plan needs of the data, labels 1: a -> "liver\n- nothing else differs"',
        "nothing else differs",
    ]


CLIP, NOISE = ({"name": name, "parameters": {"size": 1.0}} for name in ("clip", "noise"))
PLAN_OF_JOB = job_for(NOWHERE).plan.model_dump(mode="json")
RATE, SIZE = (HyperParameter(name=name, kind="float", default=0.1, minimum=0, maximum=1) for name in ("rate", "size"))


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ({"plan": {**PLAN_OF_JOB, "packages": ["monai", "torch"]}}, {"plan": {**PLAN_OF_JOB, "packages": ["torch"]}},
         ["packages of the plan: monai removed"]),
        ({}, {"plan": {**PLAN_OF_JOB, "packages": ["torch"]}}, ["packages of the plan: torch added"]),
        ({"privacy": {"steps": [CLIP, NOISE]}}, {"privacy": {"steps": [NOISE, CLIP]}},
         ["privacy steps: in another order"]),
        ({"privacy": {"steps": [CLIP, NOISE]}}, {"privacy": {"steps": [NOISE, {"name": "clip"}]}},
         ["privacy steps: in another order", "privacy steps: clip parameters size removed"]),
        ({"needs": {"kind": "table", "columns": [{"name": "age"}, {"name": "sex"}], "target": {"name": "y"}}},
         {"needs": {"kind": "table", "columns": [{"name": "sex"}, {"name": "age"}], "target": {"name": "y"}}},
         ["what the plan needs of the data columns: in another order"]),
        ({"strategy": {"parameters": {"of": True}}}, {"strategy": {"parameters": {"of": 1}}},
         ["strategy, parameters of: yes -> 1"]),
    ],
    ids=["package gone", "package", "order", "order and more", "order within", "true and 1"],
)  # fmt: skip
def test_packages_orders_and_truths_are_compared(was: dict[str, Any], now: dict[str, Any], said: list[str]) -> None:
    assert differences(job_for(NOWHERE, **was), job_for(NOWHERE, **now)) == [*said, "nothing else differs"]


def some(*values: Any) -> st.SearchStrategy[list[Any]]:
    """Some of these, in any order."""
    drawn = st.tuples(st.permutations(values), st.integers(0, len(values)))
    return drawn.map(lambda one: list(one[0][: one[1]]))


def table(columns: list[Any]) -> dict[str, Any]:
    return {"kind": "table", "columns": columns, "target": {"name": "y"}}


STEPS = [CLIP, NOISE, *({"name": "clip", "parameters": {"size": size}} for size in (True, 1))]
NUMBERS = [True, False, 0, 0.0, 1, 1.0, "1", ""]
ROSTER = [RosterEntry(site=site, identity_key=SERVER.public, dataset="rows") for site in ("charite", "mayo")]
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "title": st.sampled_from(["a", "b"]),
    "plan": some("monai", "torch").map(lambda names: {**PLAN_OF_JOB, "packages": sorted(names)}),
    "tensors": some(*(TensorSpec(name=name, dtype="float32", shape=(2,)) for name in "abc")).map(TensorSchema.of),
    "needs": st.one_of(
        some("t1", "t2").map(lambda names: {"kind": "volumes", "modalities": names}),
        st.permutations([{"name": "age"}, {"name": "sex", "categories": ["f", "m"]}]).map(table),
    ),
    "metrics": some(*(MetricSpec(name=name, better="lower") for name in ("loss", "error"))),
    "parameters": st.permutations([RATE, SIZE]),
    "strategy": st.fixed_dictionaries({}, optional={"of": st.sampled_from(NUMBERS)}).map(lambda of: {"parameters": of}),
    "privacy": st.lists(st.sampled_from(STEPS), max_size=3).map(lambda steps: {"steps": steps}),
    "roster": st.permutations(ROSTER),
}


@given(was=st.fixed_dictionaries(FIELDS), data=st.data())
def test_nothing_differs_is_said_of_one_and_the_same_job_only(was: dict[str, Any], data: st.DataObject) -> None:
    """Where a single field was drawn again, so that no other one hides what was overlooked."""
    field = data.draw(st.sampled_from(sorted(FIELDS)))
    now = {**was, field: data.draw(FIELDS[field])}
    before, after = (job_for(NOWHERE, **job, arguments={"rate": 0.1, "size": 0.1}) for job in (was, now))
    assert (differences(before, after) == ["nothing differs"]) == (job_hash(before) == job_hash(after))


def test_what_has_no_words_yet_is_still_said_to_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_differences, "_lines", lambda *_: iter(()))
    before = job_for(NOWHERE)
    lines = differences(before, before.model_copy(update={"seed": 7, "experiment": "heart-2"}))
    assert lines == ["something differs that this version has no words for"]


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("a\nb\n", "a\nc\nd\n", "2 lines added, 1 line removed"),
        ("a\nb\n", "b\na\n", "the same lines in another order"),
        (None, "a\n", "one of the two texts is not here"),
    ],
)
def test_lines_of_a_plan_are_counted(was: str | None, now: str, said: str) -> None:
    before = job_for(NOWHERE)
    plan = PlanReference(files={"tiny.py": blob_hash(now.encode())}, entry="tiny.py", class_name="Tiny")
    texts = None if was is None else {"tiny.py": was}
    lines = differences(before, before.model_copy(update={"plan": plan}), texts, {"tiny.py": now})
    assert lines[0] == f"plan file tiny.py changed: {said}"


def test_the_command_shows_both_answers(with_table: StateFolder, parent: Job) -> None:
    take_offer(with_table, experiment="heart-2", initial_model=MADE, lineage=lineage_of(parent))
    shown = Terminal(with_table.folder)("plans", "heart-2").output
    assert STARTS in shown and DIFFERS in shown and "- nothing differs but the experiment's name" in shown
