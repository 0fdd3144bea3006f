from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from plan_jobs import job_for, table, task_for, tensor_file

from archipel.plans import TorchPlan
from archipel.plans.in_turn import ReadInTurn
from archipel.plans.network_weights import export_model, import_model
from archipel.plans.optimiser_state import restore_state
from archipel.plans.runtime import PlanRuntime
from archipel.tensors import decode, encode
from archipel.vocabulary import ArchipelError, BadInput, DataNeeds, ErrorCode, HyperParameter, OptimiserState, TaskKind


class Net(TorchPlan):
    """A network with batch normalisation and dropout, so that buffers and the global generator matter."""

    needs = DataNeeds(kind="arrays")
    batch_size = 8
    optimiser_state = OptimiserState.CONTINUE_LOCAL
    hyper_parameters = (HyperParameter(name="rate", kind="float", default=0.01, minimum=0, maximum=1e9),)
    optimiser = torch.optim.Adam

    def build_model(self):
        return torch.nn.Sequential(
            torch.nn.Linear(8, 6),
            torch.nn.BatchNorm1d(6),
            torch.nn.Dropout(0.2),
            torch.nn.ReLU(),
            torch.nn.Linear(6, 2),
        )

    def build_optimiser(self, network, context):
        return type(self).optimiser(network.parameters(), lr=context.number("rate"))

    def loss(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets)


def runtime_of(plan, root, **changes):
    runtime = PlanRuntime(plan, job_for(plan, **changes), "site-a", root, table(root))
    runtime.prepare()
    return runtime


def train(runtime, model, round_=0, state=None, kind=TaskKind.TRAIN, passes=1):
    result = memoryview(bytearray(len(model)))
    return runtime.train(task_for(runtime.job, kind, round_, passes), model, result, state), result


def test_the_initial_model_follows_from_its_seed_and_leaves_the_generator_alone():
    before = torch.random.get_rng_state()
    one, same, other = (Net().initial_model(seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert encode(one) == encode(same) != encode(other)


def test_integer_buffers_keep_their_type_and_count_the_batches(tmp_path):
    plan = Net()
    runtime = runtime_of(plan, tmp_path)
    _, result = train(runtime, tensor_file(plan))
    counted = decode(result)["1.num_batches_tracked"]
    assert counted.dtype == np.int64 and counted == -(-len(plan.training) // 8)


@pytest.mark.parametrize("optimiser", [torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad, torch.optim.RAdam])
def test_rounds_split_over_two_workers_equal_one_workers_bit_for_bit(tmp_path, monkeypatch, optimiser):
    monkeypatch.setattr(Net, "optimiser", optimiser)
    one = runtime_of(Net(), tmp_path)
    model, state = tensor_file(Net()), None
    for round_ in range(3):
        outcome, model = train(one, model, round_, state)
        state = outcome.state
        if round_ == 0:
            after_first = bytes(model), state
    other = runtime_of(Net(), tmp_path)
    torch.rand(3)
    resumed, state = memoryview(after_first[0]), after_first[1]
    for round_ in (1, 2):
        outcome, resumed = train(other, resumed, round_, state)
        state = outcome.state
    assert bytes(resumed) == bytes(model)


def test_local_passes_equal_rounds_of_one_site(tmp_path):
    runtime = runtime_of(Net(), tmp_path)
    model, state = tensor_file(Net()), None
    for round_ in range(3):
        outcome, model = train(runtime, model, round_, state)
        state = outcome.state
    _, local = train(runtime, tensor_file(Net()), kind=TaskKind.LOCAL, passes=3)
    assert bytes(local) == bytes(model)


def test_continuing_the_optimiser_differs_from_resetting_it(tmp_path):
    def second_round(treatment):
        plan = Net()
        plan.optimiser_state = treatment
        runtime = runtime_of(plan, tmp_path)
        outcome, model = train(runtime, tensor_file(plan))
        return bytes(train(runtime, model, 1, outcome.state)[1])

    assert second_round(OptimiserState.RESET) != second_round(OptimiserState.CONTINUE_LOCAL)


def test_validation_changes_neither_buffers_nor_the_random_streams(tmp_path):
    with_validation, without = runtime_of(Net(), tmp_path), runtime_of(Net(), tmp_path)
    without._samples = without._samples._replace(validation=0)
    validated, one = train(with_validation, tensor_file(Net()))
    silent, other = train(without, tensor_file(Net()))
    assert validated.validation["validation_loss"].weight > 0 and silent.validation == {}
    assert bytes(one) == bytes(other)


def test_an_ensemble_of_one_model_twice_equals_the_model(tmp_path):
    runtime = runtime_of(Net(), tmp_path)
    task = task_for(runtime.job, TaskKind.EVALUATE, passes=0)
    one = runtime.evaluate(task, [tensor_file(Net())]).validation["validation_loss"]
    twice = runtime.evaluate(task, [tensor_file(Net())] * 2).validation["validation_loss"]
    assert twice.mean() == pytest.approx(one.mean())


def test_a_loss_that_turns_nan_is_named_with_its_round(tmp_path):
    plan = Net()
    plan.loss = lambda outputs, targets: outputs.sum() * float("nan")
    with pytest.raises(ArchipelError, match="the loss in round 0: is NaN or infinite") as caught:
        train(runtime_of(plan, tmp_path, validation_fraction=0.0), tensor_file(Net()))
    assert caught.value.code is ErrorCode.NOT_FINITE


def test_a_network_that_changes_between_rounds_is_refused(tmp_path):
    plan = Net()
    runtime = runtime_of(plan, tmp_path)
    plan.network = torch.nn.Linear(8, 2)
    with pytest.raises(BadInput, match=r"parameter 0\.bias: is absent in the plan's network") as caught:
        train(runtime, tensor_file(Net()))
    assert caught.value.code is ErrorCode.MODEL_CHANGED


def test_a_bfloat16_network_is_a_model_of_bfloat16_and_back():
    network, other = torch.nn.Linear(2, 3).bfloat16(), torch.nn.Linear(2, 3).bfloat16()
    model = export_model(network)
    assert {array.dtype.name for array in model.values()} == {"bfloat16"}
    import_model(other, model)
    assert other.weight.equal(network.weight) and other.bias.equal(network.bias)
    network.weight.data += 1
    export_model(network, into=model)
    assert torch.from_numpy(model["weight"].astype(np.float32)).equal(network.weight.detach().float())


class ShortNet(Net):
    """The same network with weights of 16 bits, and an optimiser with moments of 16 bits."""

    optimiser_state = OptimiserState.CONTINUE_LOCAL

    def build_model(self):
        return torch.nn.Sequential(Shortened(), super().build_model().bfloat16())

    def build_optimiser(self, network, context):
        return torch.optim.Adam(network.parameters(), lr=0.01)

    def loss(self, outputs, targets):
        return super().loss(outputs.float(), targets)


class Shortened(torch.nn.Module):
    def forward(self, inputs):
        return inputs.bfloat16()


def test_a_plan_with_bfloat16_weights_trains_and_continues(tmp_path):
    plan = ShortNet()
    runtime = runtime_of(plan, tmp_path)
    first = tensor_file(plan)
    outcome, model = train(runtime, first)
    assert outcome.validation and model != first and len(model) == len(first)
    assert set(outcome.metrics) == {"loss"} and outcome.state is not None
    decoded = decode(outcome.state)
    assert "bfloat16" in {array.dtype.name for array in decoded.values()}
    plan.restore(decoded)
    restored = plan.build_optimiser(plan.network, None)
    restore_state(restored, decoded)
    assert {tensor.dtype for one in restored.state.values() for name, tensor in one.items() if name != "step"} == {
        torch.bfloat16
    }


def test_an_optimiser_whose_state_is_no_number_cannot_continue(tmp_path, monkeypatch):
    def strange(parameters, lr):
        optimiser = torch.optim.SGD(parameters, lr=lr, momentum=0.9)
        optimiser.register_step_post_hook(lambda done, *_: [s.update(note=()) for s in done.state.values()])
        return optimiser

    monkeypatch.setattr(Net, "optimiser", staticmethod(strange))
    with pytest.raises(BadInput, match="keeps note as tuple, which cannot continue between rounds"):
        train(runtime_of(Net(), tmp_path), tensor_file(Net()))


def test_a_random_transform_is_seeded_by_the_round(tmp_path):
    class Jitter:
        def set_random_state(self, seed):
            self.numbers = np.random.default_rng(seed)

        def __call__(self, example):
            return {**example, "image": example["image"] + float(self.numbers.normal())}

    def once(plan):
        plan.transforms = lambda: [Jitter(), lambda example: example]
        return bytes(train(runtime_of(plan, tmp_path), tensor_file(Net()))[1])

    assert once(Net()) == once(Net()) != bytes(train(runtime_of(Net(), tmp_path), tensor_file(Net()))[1])


def test_an_epochs_argument_takes_the_place_of_the_attribute(tmp_path):
    class Longer(Net):
        hyper_parameters = (
            *Net.hyper_parameters,
            HyperParameter(name="epochs", kind="int", default=2, minimum=1, maximum=5),
        )

    plan = Longer()
    outcome, result = train(runtime_of(plan, tmp_path), tensor_file(plan))
    assert decode(result)["1.num_batches_tracked"] == 2 * -(-outcome.samples.training // 8)
    assert outcome.metrics["loss"].weight == outcome.samples.training


class OnDemandNet(Net):
    in_memory = False


def test_examples_made_for_each_batch_train_the_same_model_bit_for_bit(tmp_path):
    kept, made = runtime_of(Net(), tmp_path), runtime_of(OnDemandNet(), tmp_path)
    (before, expected), (after, found) = (train(runtime, tensor_file(Net()), passes=1) for runtime in (kept, made))
    assert bytes(expected) == bytes(found)
    assert (before.metrics, before.validation, before.state) == (after.metrics, after.validation, after.state)


def test_an_error_in_making_examples_ends_the_task_as_it_is(tmp_path):
    class Broken(OnDemandNet):
        def examples(self, subjects):
            if "p-011" in subjects.ids:
                raise BadInput("p-011", "cannot be used", "leave it out")
            return super().examples(subjects)

    with pytest.raises(BadInput, match="p-011: cannot be used"):
        train(runtime_of(Broken(), tmp_path, validation_fraction=0.0), tensor_file(Net()))


def outputs_of(plan, models, groups):
    with torch.inference_mode():
        return [outputs for outputs, _ in plan.averaged(models, plan.held_out.batches(groups))]


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("held_bytes", [1, 64 << 20])
def test_an_ensembles_outputs_are_the_bits_of_the_mean_over_a_stack(tmp_path, monkeypatch, count, held_bytes):
    """One model at a time gives what all at once gave, for as many models as are summed up in order."""
    plan = Net()
    runtime_of(plan, tmp_path)
    monkeypatch.setattr(Net, "activate", lambda self, outputs: outputs.sigmoid())
    monkeypatch.setattr(Net, "held_bytes", held_bytes)
    models = [plan.initial_model(seed) for seed in range(count)]
    groups = torch.arange(len(plan.held_out)).split(3)
    networks = plan.networks(models)
    with torch.inference_mode():
        at_once = [
            torch.stack([plan.activate(network(inputs)) for network in networks]).mean(0)
            for inputs, _ in plan.held_out.batches(groups)
        ]
    found = outputs_of(plan, models, groups)
    assert len(found) == len(at_once) > 1
    assert all(torch.equal(one, other) for one, other in zip(found, at_once, strict=True))


@pytest.mark.parametrize(("held_bytes", "readings"), [(64 << 20, 1), (1, 2)])
def test_a_large_ensemble_is_one_network_at_a_time_and_read_once_for_what_waits_together(
    tmp_path, monkeypatch, held_bytes, readings
):
    alive, most, read = weakref.WeakSet(), 0, []

    class Counted(Net):
        def build_model(self):
            nonlocal most
            network = super().build_model()
            alive.add(network)
            most = max(most, len(alive))
            return network

    plan = Counted()
    runtime_of(plan, tmp_path)
    monkeypatch.setattr(Net, "held_bytes", held_bytes)
    before = len(alive)

    def model(number):
        read.append(number)
        return Net().initial_model(number % 7)

    groups = torch.arange(len(plan.held_out)).tensor_split(2)
    found = outputs_of(plan, ReadInTurn(60, model), groups)
    assert sum(map(len, found)) == len(plan.held_out)
    assert read == list(range(60)) * readings
    # The one that is made while the last still has a name.
    assert most - before <= 2


class Ordered(Net):
    drawn = torch.tensor([0, 0, 5])

    def order(self, generator):
        return self.drawn


class OrderedOnDemand(Ordered):
    in_memory = False


def test_an_order_may_repeat_examples_and_changes_no_count(tmp_path):
    results = [train(runtime_of(kind(), tmp_path), tensor_file(Net())) for kind in (Ordered, OrderedOnDemand)]
    (one, model), (other, same) = results
    assert model == same and one.metrics == other.metrics
    assert one.metrics["loss"].weight == one.samples.training > 3


@pytest.mark.parametrize("drawn", [[40], [-1], [0.5], [], [[0, 1]]])
def test_an_order_that_names_no_examples_is_refused(tmp_path, monkeypatch, drawn):
    monkeypatch.setattr(Ordered, "drawn", torch.tensor(drawn, dtype=None if drawn else torch.int64))
    said = r"Ordered: order\(\) gives torch.* not int64 \[n\] of places from 0 to"
    with pytest.raises(BadInput, match=said) as raised:
        train(runtime_of(Ordered(), tmp_path), tensor_file(Net()))
    assert raised.value.code is ErrorCode.BAD_PLAN


def test_gradients_are_changed_before_the_step(tmp_path):
    class Still(Net):
        optimiser_state = OptimiserState.RESET

        def build_optimiser(self, network, context):
            return torch.optim.SGD(network.parameters(), lr=0.1)

        def before_step(self, network, context):
            for parameter in network.parameters():
                parameter.grad.zero_()

    start = tensor_file(Still())
    before, after = decode(start), decode(train(runtime_of(Still(), tmp_path), start)[1])
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
