"""A part of a model is local to each site: what a plan may do with it, and that an update has no place for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plan_jobs import job_for, table, task_for

from archipel.plans import Part, Plan, TorchPlan, TrainingResult
from archipel.plans.kept_state import divided, fault_in, local_size, most_bytes
from archipel.plans.partition import parts_of
from archipel.plans.runtime import PlanRuntime
from archipel.tensors import blob_hash, decode, encode, schema_of
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    DataNeeds,
    ErrorCode,
    FrozenPart,
    Job,
    LocalPart,
    MetricSpec,
    MetricSum,
    OptimiserState,
    TaskKey,
    TaskKind,
)


class Rows(Plan):
    """Everything that ``train`` and ``evaluate`` see of the local part ends in the sent part or in the metric."""

    needs = DataNeeds(kind="arrays")
    validation = (MetricSpec(name="own", better="higher"),)
    optimiser_state = OptimiserState.CONTINUE_LOCAL

    def initial_model(self, seed):
        return {"head": np.zeros(8), "own": np.full(8, 0.5), "fixed": np.ones(3)}

    def partition(self, name, array):
        return {"head": Part.SENT, "own": Part.LOCAL, "fixed": Part.FROZEN}[name]

    def prepare(self, training, validation, context):
        self.mean, self.count = training.table()[0].mean(axis=0), len(validation)
        self.steps = 0

    def train(self, model, context):
        self.act(model)
        model["own"] += self.mean
        model["head"] += model["own"]
        self.steps += 1
        return TrainingResult()

    def evaluate(self, models, context):
        (model,) = models
        return {"own": MetricSum(total=float(model["own"].sum()) * self.count, weight=self.count)}

    def act(self, model):
        pass

    def state(self):
        return {"steps": np.array([self.steps])}

    def restore(self, state):
        self.steps = int(state["steps"][0]) if state else 0


class World:
    """A runtime, and the tensor files of the parts of its plan's model."""

    def __init__(self, plan, root, site="site-a", **changes):
        parts = parts_of(plan, plan.initial_model(0))
        self.sent, self.local, frozen = encode(parts.sent), encode(parts.local), encode(parts.frozen)
        named = {"tensors": schema_of(parts.sent), "initial_model": blob_hash(self.sent)}
        named["local"] = LocalPart(tensors=schema_of(parts.local), blob=blob_hash(self.local))
        if parts.frozen:
            named["frozen"] = FrozenPart(tensors=schema_of(parts.frozen), blob=blob_hash(frozen))
        self.plan, self.job = plan, job_for(plan, **(named | changes))
        self.runtime = PlanRuntime(plan, self.job, site, root, table(root))
        if parts.frozen:
            self.runtime.freeze(memoryview(frozen))
        self.runtime.prepare()

    def train(self, state, round_=1, kind=TaskKind.TRAIN, passes=1):
        result = memoryview(bytearray(len(self.sent)))
        task = task_for(self.job, kind, round_, passes)
        return self.runtime.train(task, memoryview(self.sent), result, state), bytes(result)

    def own(self, state):
        return decode(divided(self.job, state)[0])["own"]


@pytest.fixture
def world(tmp_path):
    return World(Rows(), tmp_path)


def test_it_is_trained_and_kept_beside_the_optimisers_state_and_never_in_the_result(world):
    first, result = world.train(world.local)
    assert decode(result).keys() == {"head"}
    mean = world.plan.mean
    assert np.array_equal(world.own(first.state), 0.5 + mean)
    second, result = world.train(first.state, 2)
    assert np.array_equal(world.own(second.state), 0.5 + mean + mean)
    assert np.array_equal(decode(result)["head"], 0.5 + mean + mean)
    _, optimiser = divided(world.job, second.state)
    assert decode(optimiser)["steps"] == 2
    assert len(second.state) <= most_bytes(world.job, TaskKind.TRAIN)


def test_the_same_state_gives_the_same_bits(world, tmp_path):
    first, _ = world.train(world.local)
    found, again = world.train(first.state, 2), World(Rows(), tmp_path).train(first.state, 2)
    assert found[1] == again[1] and found[0].state == again[0].state


def test_the_incoming_model_is_measured_with_the_local_part_of_before_the_round(world):
    first, _ = world.train(world.local)
    assert first.validation["own"].mean() == 4
    second, _ = world.train(first.state, 2)
    assert second.validation["own"].mean() == pytest.approx(world.own(first.state).sum())


def test_training_alone_begins_with_the_initial_local_part_and_keeps_no_optimiser(world):
    alone, _ = world.train(world.local, kind=TaskKind.LOCAL, passes=3)
    assert world.own(alone.state) == pytest.approx(0.5 + 3 * world.plan.mean)
    assert divided(world.job, alone.state)[1] is None and len(alone.state) == most_bytes(world.job, TaskKind.LOCAL)


@pytest.mark.parametrize(("about", "measures"), [("", True), ("site-a", True), ("site-b", False)])
def test_a_model_is_measured_where_it_is_whole(world, about, measures):
    task = task_for(world.job, TaskKind.EVALUATE)
    task = task.model_copy(update={"key": TaskKey(experiment="test", round=1, kind=TaskKind.EVALUATE, about=about)})
    found = world.runtime.evaluate(task, [memoryview(world.sent)], world.local)
    assert bool(found.validation) is measures and found.state is None


def adds(model):
    model["own-copy"] = model["own"]


def removes(model):
    del model["own"]


def reshapes(model):
    model["own"] = model["own"][:4]


def swaps(model):
    model["head"], model["own"] = model["own"][None], model["head"]


@pytest.mark.parametrize("act", [adds, removes, reshapes, swaps])
def test_a_plan_that_tries_to_send_its_local_part_as_a_tensor_of_its_own_fails(world, act):
    world.plan.act = act
    with pytest.raises((ArchipelError, ValueError, KeyError)) as error:
        world.train(world.local)
    if isinstance(error.value, ArchipelError):
        assert error.value.code is ErrorCode.MODEL_CHANGED
    world.plan.act = lambda model: None
    assert decode(world.train(world.local)[1]).keys() == {"head"}


def test_a_local_part_that_is_not_finite_fails(world):
    world.plan.act = lambda model: model["own"].__setitem__(0, np.nan)
    with pytest.raises(ArchipelError, match=r"parameter \w+: is NaN or infinite") as error:
        world.train(world.local)
    assert error.value.code is ErrorCode.NOT_FINITE


def test_it_is_needed_and_has_the_jobs_tensors(world):
    for state, cause in ((None, "was not given"), (b"short", "the job's local part needs")):
        with pytest.raises(ValueError, match=cause):
            world.train(state)
    with pytest.raises(BadInput):
        world.train(encode({"own": np.zeros(4), "more": np.zeros(40)}))
    world.plan.partition = lambda name, array: Part.FROZEN if name == "fixed" else Part.SENT
    with pytest.raises(ArchipelError, match=r"what partition\(\) keeps local: is not what the job says"):
        world.train(world.local)


def test_what_a_worker_wants_kept_must_begin_with_the_local_part(world):
    assert not fault_in(world.job, TaskKind.TRAIN, world.local + b"anything of the optimiser")
    for kept in (None, b"", world.local[:-1], encode({"own": np.zeros(8, np.float32)}) + world.local):
        assert "kept no local part" in fault_in(world.job, TaskKind.TRAIN, kept)
    assert not fault_in(world.job, TaskKind.EVALUATE, None) and local_size(world.job) == len(world.local)


def test_a_job_has_each_tensor_in_one_part_and_no_ensemble(world):
    for part in ("tensors", "frozen"):
        tensors = world.job.tensors if part == "tensors" else world.job.frozen.tensors
        local = {"tensors": tensors, "blob": world.job.local.blob}
        with pytest.raises(ValueError, match="cannot be both"):
            Job.model_validate(world.job.model_dump() | {"local": local})
    with pytest.raises(ValueError, match="leave the ensemble out"):
        Job.model_validate(world.job.model_dump() | {"baselines": {"local": True, "ensemble": True}})
    everything = Rows()
    everything.partition = lambda name, array: Part.LOCAL
    with pytest.raises(BadInput, match="keeps every tensor at the site, so a site would send nothing"):
        parts_of(everything, everything.initial_model(0))


def test_a_rehearsal_makes_all_parts(world, tmp_path):
    runtime = PlanRuntime(Rows(), world.job, "site-a", tmp_path, world.runtime.cohort)
    runtime.prepare()
    places = [memoryview(bytearray(size)) for size in (len(world.sent), 104, len(world.local))]
    places[1] = memoryview(bytearray(len(encode({"fixed": np.ones(3)}))))
    runtime.begin(*places)
    assert [bytes(places[0]), bytes(places[2])] == [world.sent, world.local]
    result = memoryview(bytearray(len(world.sent)))
    outcome = runtime.train(task_for(world.job, TaskKind.TRAIN, 1), places[0], result, bytes(places[2]))
    assert outcome.state == world.train(world.local)[0].state


def test_one_tensor_under_two_names_has_one_part(tmp_path):
    class Tied(TorchPlan):
        needs = DataNeeds(kind="arrays")
        batch_size = 8

        def build_model(self):
            first, second = torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 8, bias=False)
            second.weight = first.weight
            return torch.nn.Sequential(first, second, torch.nn.Linear(8, 2))

        def partition(self, name, array):
            return Part.LOCAL if name.startswith("0.") else Part.SENT

        def build_optimiser(self, network, context):
            return torch.optim.SGD(network.parameters(), lr=0.05)

        def loss(self, outputs, targets):
            return torch.nn.functional.cross_entropy(outputs, targets)

    world = World(Tied(), tmp_path)
    with pytest.raises(BadInput, match=r"parameter 0\.weight: is local and is the same tensor as 1\.weight"):
        world.train(world.local)
