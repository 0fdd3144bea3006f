"""How a TorchPlan computes: device, autocast, memory format, deterministic algorithms, several batches to a step."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from archipel.plans import Context, TorchPlan
from archipel.plans.devices import Computing
from archipel.plans.examples import InMemory
from archipel.plans.network_weights import import_model
from archipel.plans.runtime import PlanRuntime, _wait_for_devices
from archipel.plans.training_steps import LossMean, train_on
from archipel.vocabulary import ArchipelError, BadInput, DataNeeds, ErrorCode, HyperParameter

META = Computing(torch.device("meta"))


class LinePlan(TorchPlan):
    """A line through 12 points, by gradient descent without momentum."""

    needs = DataNeeds(kind="arrays")
    hyper_parameters = (HyperParameter(name="accumulation", kind="int", default=1, minimum=0, maximum=8),)

    def build_model(self) -> torch.nn.Module:
        return torch.nn.Linear(3, 1)

    def build_optimiser(self, network: torch.nn.Module, context: Context) -> torch.optim.Optimizer:
        return torch.optim.SGD(network.parameters(), lr=0.05)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.mse_loss(outputs, targets)

    def order(self, generator: torch.Generator) -> torch.Tensor:
        return torch.arange(len(self.training))


class Faint(LinePlan):
    """The same steps from gradients so small that float16 holds none of them."""

    factor = 2.0**-30

    def build_optimiser(self, network: torch.nn.Module, context: Context) -> torch.optim.Optimizer:
        return torch.optim.SGD(network.parameters(), lr=0.05 / self.factor)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return super().loss(outputs.float(), targets) * self.factor


def trained(plan: TorchPlan, count: int = 12, **arguments: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The weights after one round over ``count`` points."""
    numbers = torch.Generator().manual_seed(5)
    x = torch.randn(count, 3, generator=numbers)
    context = Context(site="site-a", seed=1, round=1, rounds=1, arguments=arguments)
    model = plan.initial_model(0)
    plan.network, plan._restored, plan._transforms = plan._computing.place(plan.build_model()), {}, ()
    plan._training_samples = count
    plan.training = InMemory(lambda _: (x, x.sum(1, keepdim=True)), None)  # type: ignore[arg-type]
    plan.train(model, context)
    return model


@pytest.mark.parametrize(("count", "size", "batches"), [(12, 2, 3), (11, 2, 3), (12, 4, 5)])
def test_several_batches_to_a_step_are_one_batch(count: int, size: int, batches: int) -> None:
    small = trained(LinePlan(), count, batch_size=size, accumulation=batches)
    large = trained(LinePlan(), count, batch_size=size * batches)
    for name, array in large.items():
        np.testing.assert_allclose(small[name], array, rtol=1e-5)
    assert not np.allclose(small["weight"], trained(LinePlan(), count, batch_size=size)["weight"], rtol=1e-3)


def test_no_batch_to_a_step_is_refused() -> None:
    with pytest.raises(BadInput, match="accumulation: is 0; declare 1"):
        trained(LinePlan(), accumulation=0)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_layers_compute_in_the_declared_type_and_weights_stay_float32(kind: torch.dtype) -> None:
    seen = set()

    class Short(Faint):
        autocast = kind

        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            seen.add(outputs.dtype)
            return super().loss(outputs, targets)

    short, long = trained(Short()), trained(LinePlan())
    assert seen == {kind}
    for name, array in long.items():
        assert short[name].dtype == np.float32
        np.testing.assert_allclose(short[name], array, atol=0.02)


def test_float16_keeps_gradients_that_are_zero_in_it() -> None:
    class Short(Faint):
        autocast = torch.float16

    assert (Faint.factor * torch.ones(1)).half() == 0, "float16 holds the gradients of this loss"
    assert not np.array_equal(trained(Short())["weight"], Short().initial_model(0)["weight"])


def test_gradients_are_not_scaled_any_more_when_a_plan_clips_them() -> None:
    seen = []

    class Clipped(Faint):
        autocast = torch.float16

        def before_step(self, network: torch.nn.Module, context: Context) -> None:
            seen.append(float(torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)))

    trained(Clipped())
    assert 0 < max(seen) < 100 * Faint.factor, "the loss is scaled by 65,536"


def test_another_type_for_layers_is_refused() -> None:
    class Wrong(LinePlan):
        autocast = torch.float64

    with pytest.raises(BadInput, match=r"autocast: is torch.float64; declare torch.bfloat16"):
        trained(Wrong())


@pytest.mark.parametrize("convolution", [torch.nn.Conv2d, torch.nn.Conv3d])
def test_images_with_their_channels_last_are_the_same_model(convolution: type[torch.nn.Conv2d]) -> None:
    computing = Computing(torch.device("cpu"), channels_last=True)
    torch.manual_seed(0)
    network = convolution(3, 4, 3)
    model = {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}
    images = torch.randn(2, 3, *[5] * (network.weight.ndim - 2))
    expected = network(images)
    given = computing.give(images)
    placed = computing.place(network)
    assert given.stride(1) == placed.weight.stride(1) == 1, "channels are not last"
    torch.testing.assert_close(computing.outputs(placed, images), expected)
    import_model(placed, model)
    torch.testing.assert_close(computing.outputs(placed, images), expected)


def test_a_plan_with_channels_last_and_one_without_train_alike() -> None:
    class Last(LinePlan):
        channels_last = True

    for name, array in trained(LinePlan()).items():
        np.testing.assert_array_equal(trained(Last())[name], array)


def test_a_compiled_network_keeps_the_names_of_its_parameters() -> None:
    class Compiled(LinePlan):
        compiled = True

    plan = Compiled()
    with torch.compiler.set_stance("force_eager"):
        model = trained(plan)
    assert plan.network._compiled_call_impl is not None
    np.testing.assert_array_equal(model["weight"], trained(LinePlan())["weight"])


def test_deterministic_algorithms_are_asked_for_while_a_plan_trains_and_no_longer() -> None:
    seen = []

    class Deterministic(LinePlan):
        deterministic = True

        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            seen.append(torch.are_deterministic_algorithms_enabled())
            return super().loss(outputs, targets)

    trained(Deterministic())
    assert set(seen) == {True}
    assert not torch.are_deterministic_algorithms_enabled()


def test_network_batches_and_targets_are_on_the_device_of_the_context() -> None:
    network = META.place(torch.nn.Linear(3, 1))
    seen = []

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append((outputs.device.type, targets.device.type))
        return torch.nn.functional.mse_loss(outputs, targets)

    batches = [(torch.ones(2, 3), torch.ones(2, 1))] * 3
    optimiser = torch.optim.Adam(network.parameters())
    # A meta tensor has no value: a loss that were read within these steps would raise.
    train_on(batches, network, optimiser, loss, lambda: None, META, 1, LossMean(1, META))
    assert seen == [("meta", "meta")] * 3
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}


def test_a_model_that_nobody_may_write_to_goes_to_a_device() -> None:
    array = np.ones((1, 3), dtype=np.float32)
    array.flags.writeable = False
    network = META.place(torch.nn.Linear(3, 1, bias=False))
    import_model(network, {"weight": array})
    assert network.weight.device.type == "meta"


def test_a_device_is_not_waited_for_at_each_loss_and_a_bad_loss_is_found() -> None:
    losses = LossMean(4, META)
    for _ in range(63):
        losses.add(torch.tensor(float("nan")), 2)
    with pytest.raises(ArchipelError, match="the loss in round 4: is NaN") as raised:
        losses.add(torch.tensor(1.0), 2)
    assert raised.value.code is ErrorCode.NOT_FINITE


def test_the_mean_of_losses_read_together_is_that_of_losses_read_one_by_one() -> None:
    together, alone = LossMean(1, META), LossMean(1, Computing(torch.device("cpu")))
    for number in range(100):
        for losses in (together, alone):
            losses.add(torch.tensor(1 / (number + 1)), number % 3 + 1)
    assert together.value() == alone.value()


def test_the_runtime_waits_for_a_gpu_before_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    cuda = SimpleNamespace(is_initialized=lambda: True, synchronize=lambda: waited.append(True))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    _wait_for_devices()
    assert waited == [True]


def test_a_plan_reads_its_device_in_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = PlanRuntime.__new__(PlanRuntime)
    runtime.site, runtime.device = "site-a", "cuda"
    limits = SimpleNamespace(threads=1)
    runtime.job = SimpleNamespace(seed=0, terms=SimpleNamespace(rounds=2), arguments={}, limits=limits)  # type: ignore[assignment]
    assert runtime._context(SimpleNamespace(round=1, arguments={})).device == "cuda"  # type: ignore[arg-type]
