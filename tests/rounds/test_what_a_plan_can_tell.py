"""The stated capacity of an update beside its weights is what a plan written to smuggle really gets out, no more."""

from __future__ import annotations

import itertools
import math
import random
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scripted_fleet import job

from archipel.data import SampleCounts
from archipel.governance import job_hash, record_hash
from archipel.plans.in_turn import ReadingOrder
from archipel.plans.runtime import Outcome
from archipel.privacy import Measured, reported_bytes
from archipel.privacy.capacity import FLOATS, MOST_RUNS, SQUARES, failures, histograms, readings, updates
from archipel.rounds.accounting import check_update
from archipel.tasks import Compute, Trained, computing
from archipel.tensors import encode
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    Baselines,
    ErrorCode,
    Job,
    MetricSpec,
    MetricSum,
    Task,
    TaskKey,
    TaskKind,
    TrainingPass,
    Update,
    WorkerLimits,
)
from archipel.vocabulary.score_histogram import ScoreHistogram
from archipel.vocabulary.spread import Spread

HELD = SampleCounts(training=40, validation=11, held_out_patients=9)
SITE = Measured(*HELD, minimum_cell=5)
RECALL = MetricSpec(name="recall", better="higher", counts="lesion", largest_weight=1000)
LOSS, DICE = MetricSpec(name="loss", better="lower"), MetricSpec(name="dice", better="higher")
JOB = job(metrics=(LOSS,), validation=(DICE, RECALL), limits=WorkerLimits(wall_s=3.5))
SPREAD = JOB.model_copy(update={"validation": (DICE.model_copy(update={"spread": True}), RECALL)})
MODEL = encode({"weight": np.zeros(3), "count": np.zeros((), np.int64)})

SMALLEST = 5
"""The least weight of a metric whose squares leave this site."""


def task(job: Job, kind: TaskKind) -> Task:
    key = TaskKey(experiment=job.experiment, round=1, kind=kind)
    passes = () if kind is TaskKind.EVALUATE else (TrainingPass(round=1),)
    return Task(key=key, job_hash=job_hash(job), models=(job.initial_model,), passes=passes)


def float_number(total: float) -> int:
    """The place of a float32 among those that are finite, with one zero: 0 to FLOATS - 1."""
    (bits,) = struct.unpack("<I", struct.pack("<f", total))
    size = bits & 0x7FFFFFFF
    return 2 * size - (bits >> 31) if size else 0


def numbered_float(number: int) -> float:
    size, negative = (number + 1) // 2, number % 2
    (total,) = struct.unpack("<f", struct.pack("<I", size | negative << 31))
    return float(total)


def states_of(spec: MetricSpec, samples: int) -> int:
    most = spec.most(samples)
    with_squares = most - SMALLEST + 1 if spec.spread else 0
    return 1 + FLOATS * (most + 1 - with_squares) + FLOATS * with_squares * SQUARES


def smuggled(secret: int, specs: Sequence[MetricSpec], samples: int) -> tuple[int, dict[str, MetricSum]]:
    """What is left of the secret, and the metrics that carry the rest of it."""
    metrics = {}
    for spec in specs:
        secret, digit = divmod(secret, states_of(spec, samples))
        if digit:
            metrics[spec.name] = made_of(digit - 1, spec, samples)
    return secret, metrics


def made_of(digit: int, spec: MetricSpec, samples: int) -> MetricSum:
    alone = SMALLEST if spec.spread else spec.most(samples) + 1
    squares = 0.0
    if digit < alone * FLOATS:
        weight, number = divmod(digit, FLOATS)
    else:
        rest, number = divmod(digit - alone * FLOATS, FLOATS)
        weight, size = divmod(rest, SQUARES)
        weight, squares = weight + alone, struct.unpack("<f", struct.pack("<I", size))[0]
    total = numbered_float(number)
    # What a plan says of few patients it has to say too; the site leaves it out.
    spread = Spread(total=total, weight=weight, squares=squares) if spec.spread and weight else None
    return MetricSum(total=total, weight=weight, spread=spread)


def digit_of(value: MetricSum, spec: MetricSpec, samples: int) -> int:
    number = float_number(value.total)
    if value.spread is None:
        return value.weight * FLOATS + number
    (size,) = struct.unpack("<I", struct.pack("<f", value.spread.squares))
    return SMALLEST * FLOATS + ((value.weight - SMALLEST) * SQUARES + size) * FLOATS + number


def read_back(update: Update, job: Job) -> int:
    """The secret, by whoever gets the update."""
    secret = update.seconds
    for specs, found, samples in (
        (job.validation, update.validation, HELD.validation),
        (job.metrics, update.metrics, HELD.training),
    ):
        for spec in reversed(specs):
            value = found.get(spec.name)
            digit = 0 if value is None else 1 + digit_of(value, spec, samples)
            secret = secret * states_of(spec, samples) + digit
    return secret


class Smuggler:
    """A plan that says a number of any size with all that it may report, and takes as long as the number asks for."""

    def __init__(self, secret: int, job: Job, clock: SimpleNamespace) -> None:
        secret, metrics = smuggled(secret, job.metrics, HELD.training)
        self.seconds, validation = smuggled(secret, job.validation, HELD.validation)
        self.outcome, self.clock = Outcome(HELD, metrics, validation), clock

    @asynccontextmanager
    async def run(self, task: Task) -> AsyncIterator[Trained]:
        self.clock.now += self.seconds + 0.4
        yield Trained(self.outcome, memoryview(MODEL))


@pytest.mark.parametrize(("job", "stated"), [(JOB, 15), (SPREAD, 19)], ids=["sums", "sums of squares too"])
async def test_a_plan_gets_out_exactly_as_many_bytes_as_are_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Job, stated: int
) -> None:
    states = updates(job, TaskKind.TRAIN, SITE)
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(computing, "time", SimpleNamespace(monotonic=lambda: clock.now))
    draw = random.Random(7)
    doing = task(job, TaskKind.TRAIN)
    for secret in (0, 1, states - 1, *(draw.randrange(states) for _ in range(50))):
        made = await Compute(job, "a", Smuggler(secret, job, clock), tmp_path)(doing)
        check_update(job, doing, made.update, has_file=True)
        arrived = Update.model_validate_json(made.update.model_dump_json())
        assert read_back(arrived, job) == secret
    # Nothing more can be told: one more is beyond the longest time, and is cut to it.
    made = await Compute(job, "a", Smuggler(states, job, clock), tmp_path)(doing)
    assert read_back(made.update, job) < states
    bits = (states + failures(job) - 1).bit_length()
    assert reported_bytes(job, SITE) == -(-bits // 8) == stated


def test_how_often_an_ensembles_models_are_read_is_bounded_and_counted() -> None:
    """By the rule that a worker's requests pass: the server sees each as a fetch. A plan got 745 of 20 models."""

    def fetched(number: int) -> int:
        """How often a site of a large ensemble fetches a model for a plan that asks for so many, each of them twice."""
        order, models = (
            ReadingOrder(len(asking.sites), times=HELD.validation),
            itertools.cycle(range(len(asking.sites))),
        )
        asked = itertools.islice(models, number)
        return sum(1 for _ in itertools.takewhile(lambda one: order.allows(one) and order.allows(one), asked))

    asking = job(metrics=(LOSS,), validation=(DICE,), baselines=Baselines(local=True, ensemble=True))
    ways = readings(asking, TaskKind.EVALUATE, HELD.validation)
    once = 1 + 11 * len(asking.sites)
    assert ways == once**MOST_RUNS
    assert {fetched(number) for number in range(once + 50)} == set(range(once))
    # Without a metric of training, what tells most is the evaluation of the ensemble.
    asking = asking.model_copy(update={"metrics": ()})
    states = updates(asking, TaskKind.EVALUATE, SITE) + failures(asking)
    assert reported_bytes(asking, SITE) == math.ceil(math.log2(states * ways) / 8) > math.log2(states) / 8
    assert readings(asking, TaskKind.TRAIN, 11) == readings(JOB, TaskKind.EVALUATE, 11) == 1


async def test_the_order_of_metrics_tells_nothing(tmp_path: Path) -> None:
    many = tuple(MetricSpec(name=f"m{number}", better="lower") for number in range(4))
    asked, one = job(metrics=(LOSS,), validation=many), MetricSum(total=1.0, weight=1)
    doing, arrived = task(asked, TaskKind.TRAIN), set()
    for order in itertools.permutations(spec.name for spec in many):
        smuggler = Smuggler(0, asked, SimpleNamespace(now=0.0))
        smuggler.outcome = Outcome(HELD, {}, dict.fromkeys(order, one))
        made = (await Compute(asked, "a", smuggler, tmp_path)(doing)).update
        check_update(asked, doing, made, has_file=True)
        arrived.add(tuple(made.validation))
    assert arrived == {("m0", "m1", "m2", "m3")}
    forged = made.model_copy(update={"validation": dict.fromkeys(("m1", "m0"), one)})
    with pytest.raises(BadInput, match="has its metrics in another order than the job"):
        check_update(asked, doing, forged, has_file=True)


def test_every_float_that_is_finite_is_counted_once() -> None:
    largest = 3.4028234663852886e38
    assert numbered_float(FLOATS - 1) == largest or numbered_float(FLOATS - 2) == largest
    for number in (0, 1, 2, 12_345, FLOATS // 2, FLOATS - 1):
        assert float_number(numbered_float(number)) == number
        assert np.isfinite(np.float32(numbered_float(number)))


@pytest.mark.parametrize(
    "value",
    [
        MetricSum(total=1.0, weight=41),
        MetricSum(total=0.1, weight=1),
        MetricSum(total=1e-60, weight=1),
        MetricSum(total=1e39, weight=1),
    ],
    ids=["more samples than there are", "digits beyond float32", "below float32", "beyond float32"],
)
def test_a_server_takes_nothing_that_a_site_would_not_send(value: MetricSum) -> None:
    doing = task(JOB, TaskKind.TRAIN)
    update = Update(
        key=doing.key, site="a", task_hash=record_hash(doing), model=JOB.initial_model, samples=40,
        metrics={"loss": value},
    )  # fmt: skip
    with pytest.raises(BadInput, match="metric loss"):
        check_update(JOB, doing, update, has_file=True)


@pytest.mark.parametrize("kind", [TaskKind.LOCAL, TaskKind.EVALUATE])
async def test_a_task_reports_only_what_it_is_counted_for(tmp_path: Path, kind: TaskKind) -> None:
    """A training alone measures nothing, and a measurement trains nothing: what a worker says all the same stays."""
    one = MetricSum(total=1.0, weight=1)
    more = Outcome(HELD, {}, {"dice": one}) if kind is TaskKind.LOCAL else Outcome(HELD, {"loss": one}, {})
    smuggler = Smuggler(0, JOB, SimpleNamespace(now=0.0))
    smuggler.outcome = more
    doing = task(JOB, kind)
    with pytest.raises(ArchipelError, match=r"metric (dice|loss): is not in the job") as caught:
        await Compute(JOB, "a", smuggler, tmp_path)(doing)
    assert caught.value.code is ErrorCode.PLAN_ERROR
    update = Update(
        key=doing.key, site="a", task_hash=record_hash(doing), samples=40, metrics=more.metrics,
        validation=more.validation, model=JOB.initial_model if kind is TaskKind.LOCAL else None,
    )  # fmt: skip
    with pytest.raises(BadInput, match="is not in the job"):
        check_update(JOB, doing, update, has_file=kind is TaskKind.LOCAL)


@pytest.mark.parametrize("total", [-0.0, -1e-60])
def test_there_is_one_zero(total: float) -> None:
    value = MetricSum(total=total, weight=1)
    assert math.copysign(1, value.rounded("loss").total) == 1
    assert not value.is_rounded


def test_a_thousand_metrics_are_said_to_carry_what_they_carry() -> None:
    many = tuple(MetricSpec(name=f"m{number}", better="lower") for number in range(1000))
    # A float32 total and a weight of up to 11: 35.6 bits each.
    assert reported_bytes(job(metrics=(LOSS,), validation=many), SITE) == pytest.approx(35.585 * 1000 / 8, abs=8)


@pytest.mark.parametrize(("bins", "most", "smallest"), [(2, 7, 2), (3, 6, 2), (4, 6, 3), (3, 9, 4), (2, 3, 5)])
def test_all_histograms_of_scores_that_can_leave_are_counted_and_no_others(bins: int, most: int, smallest: int) -> None:
    """Every list of counts that a plan can report, and how many different ones the site makes of them."""
    whole = [one for one in itertools.product(range(most + 1), repeat=2 * bins) if sum(one) <= most]
    left = {
        ScoreHistogram.model_construct(
            positives_from=one[:bins], positives_to=one[:bins], negatives_from=one[bins:], negatives_to=one[bins:]
        ).coarsened(smallest)
        for one in whole
    }
    assert len(left - {None}) == histograms(bins, most, smallest)
    assert histograms(bins, most, None) == 0


async def test_a_plan_gets_every_total_weight_and_histogram_of_an_auc_out_and_no_more(tmp_path: Path) -> None:
    auc = MetricSpec(name="auc", better="higher", bins=16)
    told = job(metrics=(LOSS,), validation=(auc,), limits=WorkerLimits(wall_s=3.5))
    doing, draw = task(told, TaskKind.EVALUATE), random.Random(3)
    for _ in range(30):
        cuts = sorted(draw.sample(range(15), 2))
        positives, negatives = [0] * 16, [0] * 16
        # Two runs of positives, no negative: where the first ends and both counts say something, nothing else does.
        left = draw.randrange(2)
        positives[cuts[0]], positives[cuts[1] + 1] = 5, 5 + left
        scores = ScoreHistogram(
            positives_from=tuple(positives), positives_to=tuple(positives),
            negatives_from=tuple(negatives), negatives_to=tuple(negatives),
        )  # fmt: skip
        said = MetricSum(total=numbered_float(draw.randrange(FLOATS)), weight=draw.randrange(12), scores=scores)
        smuggler = Smuggler(0, told, SimpleNamespace(now=0.0))
        smuggler.outcome = Outcome(HELD, {}, {"auc": said})
        made = (await Compute(told, "a", smuggler, tmp_path)(doing)).update
        check_update(told, doing, made, has_file=False)
        found = made.validation["auc"]
        assert (found.total, found.weight) == (said.total, said.weight) and found.scores is not None
        assert [n for n, count in enumerate(found.scores.positives_to) if count] == [cuts[0], 15]
        assert [count for count in found.scores.positives_to if count] == [5, 5 + left]
    states = updates(told, TaskKind.EVALUATE, SITE)
    assert states == 4 * (1 + 12 * FLOATS * (1 + histograms(16, 11, 5)))
    # What docs/security.md says.
    assert [-(-(histograms(64, most, 5).bit_length()) // 8) for most in (50, 200, 1000)] == [7, 21, 61]


def test_a_job_of_few_samples_can_tell_less() -> None:
    assert reported_bytes(JOB, Measured(0, 0, 0, 5)) < reported_bytes(JOB, SITE)
    assert reported_bytes(JOB, SITE) < reported_bytes(JOB, Measured(10**9, 10**9, 10**9, 5))


def test_a_site_of_few_patients_can_tell_as_little_as_without_squares() -> None:
    few, many = Measured(40, 11, 4, 5), Measured(40, 11, 5, 5)
    assert reported_bytes(SPREAD, few) == reported_bytes(JOB, few) < reported_bytes(SPREAD, many)
    assert reported_bytes(SPREAD, Measured(40, 11, 11, 12)) == reported_bytes(JOB, few)
