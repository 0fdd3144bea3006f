"""Each plan on the page of hooks trains a round, and does what the page says of its hook."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archipel.data import Cohort, scan
from archipel.plans import load
from archipel.plans.base import Context
from archipel.plans.network_weights import export_model
from archipel.plans.partition import parts_of
from archipel.plans.runtime import PlanRuntime
from archipel.tensors import blob_hash, encode, schema_of
from archipel.vocabulary import (
    FrozenPart,
    Job,
    LocalPart,
    PlanReference,
    RosterEntry,
    RoundTerms,
    Task,
    TaskKey,
    TaskKind,
    TrainingPass,
)

PAGE = (Path(__file__).parents[2] / "docs" / "plan-hooks.md").read_text()
BASE, *BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NAMES = [re.findall(r"^class (\w+Plan)", block, re.MULTILINE)[0] for block in BLOCKS]
KEY = "ed25519:" + "0" * 64


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cohort]:
    """40 pictures of 8 x 8, a quarter of them with a bright spot."""
    root, draw = tmp_path_factory.mktemp("spots"), np.random.default_rng(0)
    y = (np.arange(40) % 4 == 0).astype(np.int64)
    x = draw.integers(0, 120, (40, 8, 8), np.uint8)
    x[y == 1, 2:5, 3:6] = 250
    np.savez(root / "spots.npz", x=x, y=y, subject=np.array([f"p-{n:03}" for n in range(40)]))
    return root, Cohort(dataset="data", format="npz", samples=scan("npz", root).samples)


def runtime_of(folder: Path, block: str, cohort: tuple[Path, Cohort]) -> PlanRuntime:
    (folder / "plan.py").write_text(f"{BASE}\n\n{block}")
    plan = load(folder / "plan.py")
    sent, frozen, local = parts_of(plan, plan.initial_model(0))
    part = FrozenPart(tensors=schema_of(frozen), blob=blob_hash(encode(frozen))) if frozen else None
    job = Job(
        experiment="hooks",
        plan=PlanReference(files={"plan.py": blob_hash(b"")}, entry="plan.py", class_name=type(plan).__name__),
        initial_model=blob_hash(encode(sent)),
        tensors=schema_of(sent),
        frozen=part,
        local=LocalPart(tensors=schema_of(local), blob=blob_hash(encode(local))) if local else None,
        needs=plan.needs,
        metrics=plan.metrics,
        validation=plan.validation,
        parameters=plan.hyper_parameters,
        arguments=plan.arguments(),
        terms=RoundTerms(rounds=4, quorum=1),
        roster=(RosterEntry(site="site-a", identity_key=KEY, dataset="data"),),
        server_key=KEY,
    )
    runtime = PlanRuntime(plan, job, "site-a", *cohort)
    if part is not None:
        runtime.freeze(memoryview(encode(frozen)))
    runtime.prepare()
    return runtime


def train(runtime: PlanRuntime) -> tuple[Any, bytes]:
    parts = parts_of(runtime.plan, runtime.plan.initial_model(0))
    model, kept = memoryview(encode(parts.sent)), encode(parts.local) if parts.local else None
    task = Task(
        key=TaskKey(experiment="hooks", round=1, kind=TaskKind.TRAIN),
        job_hash=blob_hash(b"job"),
        models=(runtime.job.initial_model,),
        passes=(TrainingPass(round=1, arguments=runtime.job.arguments),),
    )
    result = memoryview(bytearray(len(model)))
    return runtime.train(task, model, result, kept), bytes(result)


def context(round_: int = 1) -> Context:
    return Context(site="site-a", seed=1, round=round_, rounds=4, arguments={"learning_rate": 0.01})


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def scaled(plan: Any) -> None:
    for inputs, _ in plan.training.batches(torch.arange(12).split(4)):
        assert inputs.mean((1, 2, 3)).abs().max() < 1e-5 and not hasattr(plan.training, "inputs")


def crops(plan: Any) -> None:
    inputs, targets = next(plan._batches(context()))
    assert inputs.shape == (16, 1, 6, 6) and targets[::2].equal(targets[1::2])


def brightness(plan: Any) -> None:
    inputs, targets = torch.ones(400, 1, 8, 8), torch.zeros(400)
    changed, _ = plan.augment(inputs, targets, seeded())
    assert changed.equal(plan.augment(inputs, targets, seeded())[0])
    assert 0.4 < float((changed[:, 0, 0, 0] != 1).float().mean()) < 0.6


def balanced(plan: Any) -> None:
    targets, generator = plan.training.targets, seeded()
    drawn = torch.cat([targets[plan.order(generator)] for _ in range(50)]).float()
    assert float(targets.float().mean()) < 0.35 and 0.45 < float(drawn.mean()) < 0.55


def clipped(plan: Any) -> None:
    plan.loss(1000 * plan.network(plan.training.inputs), plan.training.targets).backward()
    plan.before_step(plan.network, context())
    norms = torch.stack([one.grad.norm() for one in plan.network.parameters()])
    assert float(norms.norm()) == pytest.approx(0.05, rel=1e-3)


def cosine(plan: Any) -> None:
    rates = [plan.build_optimiser(plan.network, context(round_)).param_groups[0]["lr"] for round_ in range(1, 5)]
    half = math.sqrt(0.5) / 2
    assert rates == pytest.approx([0.01, 0.01 * (0.5 + half), 0.005, 0.01 * (0.5 - half)])


def accuracy(plan: Any) -> None:
    found = plan.measure(torch.tensor([[2.0, 1], [0, 1], [3, 0]]), torch.tensor([0, 1, 1]))
    assert (found["accuracy"].total, found["accuracy"].weight) == (2, 3)


def spread(plan: Any) -> None:
    batches = [torch.tensor([[2.0, 1], [0, 1], [3, 0]]), torch.tensor([[2.0, 1], [0, 1]])]
    found = [plan.measure(one, torch.tensor([0, 1, 1][: len(one)]))["accuracy"] for one in batches]
    # Right, right, wrong; right, right.
    assert (found[0] + found[1]).spread.deviation == pytest.approx(np.std([1, 1, 0, 1, 1], ddof=1))
    assert plan.validation[0].spread and not plan.validation[1].spread


def auc(plan: Any) -> None:
    batches = [torch.tensor([[0.0, 2], [0, -2]]), torch.tensor([[0.0, 1], [0, 3]])]
    found = [plan.measure(one, torch.tensor([1, 0]))["auc"] for one in batches]
    # Scores 0.88 and 0.73 of positives; 0.12 and 0.95 of negatives.
    together = (found[0] + found[1]).finished()
    assert (together.mean(), together.weight) == (0.5, 4) and together.scores.cases == (2, 2)


def probabilities(plan: Any) -> None:
    one, two = torch.tensor([[math.log(9), 0.0]]), torch.tensor([[0.0, 0.0]])
    outputs = plan.undo_activation((plan.activate(one) + plan.activate(two)) / 2)
    assert float(plan.loss(outputs, torch.tensor([0]))) == pytest.approx(-math.log((0.9 + 0.5) / 2), rel=1e-6)


def half(plan: Any) -> None:
    inputs, steps = plan.training.inputs, []
    plan.before_step = lambda network, context: steps.append(network)
    plan.train(plan.initial_model(0), context())
    assert len(steps) == math.ceil(len(inputs) / 8)
    assert plan.network(plan._computing.give(inputs)).dtype is torch.float32
    with plan._computing.casting():
        assert plan.network(plan._computing.give(inputs)).dtype is torch.bfloat16
    assert plan._computing.give(torch.ones(2, 3, 4, 4)).stride(1) == 1


def head(plan: Any) -> None:
    before, after = plan.initial_model(0), export_model(plan.network)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"4.weight", "4.bias"} == parts_of(plan, before).sent.keys()
    assert sum(before[name].size for name in changed) == 34


def adapters(plan: Any) -> None:
    before, after = plan.initial_model(0), export_model(plan.network)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"4.down.weight", "4.up.weight"} == parts_of(plan, before).sent.keys()
    inputs, network = plan.training.inputs, plan._fresh_network(0)
    assert network(inputs).equal(network[4].base(network[:4](inputs)))


def norms(plan: Any) -> None:
    before, after = plan.initial_model(0), export_model(plan.network)
    parts = parts_of(plan, before)
    assert parts.sent.keys() == {"0.weight", "0.bias", "5.weight", "5.bias"} and len(parts.local) == 5
    assert after["1.num_batches_tracked"] > 0 and (after["1.weight"] != before["1.weight"]).any()


def chance(plan: Any) -> None:
    found = plan.predictions(torch.tensor([[0.0, math.log(3)]]))
    assert {name: values.tolist() for name, values in found.items()} == {"chance of a spot": [pytest.approx(0.75)]}


CLAIMS: dict[str, Callable[[Any], None]] = {
    "ScaledPlan": scaled,
    "CropPlan": crops,
    "BrightnessPlan": brightness,
    "BalancedPlan": balanced,
    "ClippedPlan": clipped,
    "CosinePlan": cosine,
    "AccuracyPlan": accuracy,
    "SpreadPlan": spread,
    "AucPlan": auc,
    "ProbabilitiesPlan": probabilities,
    "HalfPlan": half,
    "HeadPlan": head,
    "AdapterPlan": adapters,
    "FedBnPlan": norms,
    "ChancePlan": chance,
}


def test_every_example_of_the_page_has_a_claim() -> None:
    assert list(CLAIMS) == NAMES


@pytest.mark.parametrize(("name", "block"), list(zip(NAMES, BLOCKS, strict=True)), ids=NAMES)
def test_an_example_of_the_page_trains_and_does_what_it_says(
    tmp_path: Path, cohort: tuple[Path, Cohort], name: str, block: str
) -> None:
    runtime = runtime_of(tmp_path, block, cohort)
    outcome, model = train(runtime)
    assert outcome.metrics["loss"].weight == outcome.samples.training and outcome.validation
    assert train(runtime_of(tmp_path, block, cohort))[1] == model, "the same seed, the same bits"
    CLAIMS[name](runtime.plan)
