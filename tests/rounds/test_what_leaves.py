"""A field that may leave only within a sum is a tensor to be added; said by itself it is refused at both ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from other_strategies import registered
from pydantic import ValidationError
from scripted_fleet import MODEL, Scene, job

from archipel.data import SampleCounts
from archipel.governance import job_hash, record_hash
from archipel.plans.runtime import Outcome
from archipel.privacy import UpdateSums, addend_of, update_schema
from archipel.rounds import ExperimentState, ParticipantStatus, check_what_leaves
from archipel.rounds.accounting import check_update
from archipel.tasks import Compute, LocalUpdate, Trained
from archipel.tensors import blob_hash, decode, encode, schema_of
from archipel.vocabulary import (
    UPDATE_FIELDS,
    ArchipelError,
    BadInput,
    ErrorCode,
    MetricSum,
    Release,
    Task,
    TaskKey,
    TaskKind,
    TrainingPass,
    Update,
)

SUMMED = job(privacy={"release": "sum"}, terms={"rounds": 1, "retries": 0})
ONE = MetricSum(total=1.0, weight=1.0)
SITES = {"a": (2, 1.0), "b": (3, 2.0), "c": (5, -4.0)}
"""By site, how many samples it trained on, and its weights afterwards."""


def task_of(kind: TaskKind = TaskKind.TRAIN) -> Task:
    key = TaskKey(experiment=SUMMED.experiment, round=1, kind=kind)
    passes = (TrainingPass(round=1),)
    return Task(key=key, job_hash=job_hash(SUMMED), models=(SUMMED.initial_model,), passes=passes)


def update_of(**fields: Any) -> Update:
    task = task_of()
    return Update(key=task.key, site="a", task_hash=record_hash(task), **({"samples": 0} | fields))


@pytest.mark.parametrize(
    "filled",
    [{"samples": 3}, {"metrics": {"loss": ONE}}, {"validation": {"accuracy": ONE}}],
    ids=lambda one: next(iter(one)),
)
def test_each_field_is_refused_by_itself(filled: dict[str, Any]) -> None:
    (field,) = filled
    update = update_of(**filled)
    check_what_leaves(job(), update)
    with pytest.raises(BadInput, match=f"{field} may leave a site only in a sum"):
        check_what_leaves(SUMMED, update)
    with pytest.raises(BadInput, match=f"{field} may leave a site only in a sum"):
        check_update(SUMMED, task_of(), update, True)


def test_an_update_without_its_file_is_refused() -> None:
    with pytest.raises(BadInput, match="has no model or no samples"):
        check_update(SUMMED, task_of(), update_of(), False)
    check_update(SUMMED, task_of(), update_of(model=SUMMED.initial_model), True)


def test_a_job_says_of_every_field_how_it_leaves() -> None:
    assert {field: SUMMED.release_of(field) for field in UPDATE_FIELDS} == {
        "model": Release.SUM,
        "samples": Release.SUM,
        "metrics": Release.SUM,
        "validation": Release.SUM,
        "seconds": Release.INDIVIDUALLY,
        "failure": Release.INDIVIDUALLY,
    }
    with pytest.raises(KeyError):
        SUMMED.release_of("patients")


def test_the_schema_of_an_update_has_each_field_that_adds_up() -> None:
    fields = [f"#validation/accuracy/{part}" for part in ("total", "weight")]
    evaluated = update_schema(SUMMED, TaskKind.EVALUATE)
    assert [spec.name for spec in evaluated.tensors] == fields
    trained = {spec.name: (spec.dtype, spec.shape) for spec in update_schema(SUMMED, TaskKind.TRAIN).tensors}
    number = ("float64", ())
    added = ["#samples", "#weight", "#metric/loss/total", "#metric/loss/weight", *fields]
    assert trained == {"weight": ("float64", (3,)), "count": number} | dict.fromkeys(added, number)
    assert update_schema(job(), TaskKind.TRAIN) == job().tensors
    assert not update_schema(job(), TaskKind.EVALUATE).tensors
    narrow = {name: np.zeros(2, name) for name in ("float64", "float32", "float16", "int8", "bool")}
    wide = update_schema(job(privacy={"release": "sum"}, tensors=schema_of(narrow)), TaskKind.TRAIN)
    types = {spec.name: spec.dtype for spec in wide.tensors if spec.shape}
    assert types == dict.fromkeys(("float64", "int8", "bool"), "float64") | dict.fromkeys(
        ("float32", "float16"), "float32"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"terms": {"quorum": 1}}, "the quorum must be 2 or more"),
        ({"baselines": {"local": True}}, "a site's own model is not a sum"),
        ({"tensors": schema_of({"#samples": np.zeros(1)})}, "no tensor may be called #samples"),
    ],
)
def test_a_job_of_sums_in_which_a_single_site_would_show_cannot_be_made(changes: dict[str, Any], words: str) -> None:
    job(**changes)
    with pytest.raises(ValidationError, match=words):
        job(privacy={"release": "sum"}, **changes)


# A site's end


class Trainer:
    """Gives back a model and what was counted; asked for an evaluation, only the latter."""

    def __init__(self, outcome: Outcome, weights: float = 1.5) -> None:
        self.outcome, self.asked = outcome, 0
        self.result = encode({"weight": np.full(3, weights), "count": np.asarray(4, np.int64)})

    @asynccontextmanager
    async def run(self, task: Task) -> AsyncIterator[Trained]:
        self.asked += 1
        trains = task.key.kind is TaskKind.TRAIN
        yield Trained(self.outcome, memoryview(self.result) if trains else None)


COUNTED = SampleCounts(training=7, validation=3)
OUTCOME = Outcome(COUNTED, {"loss": MetricSum(total=0.5, weight=7)}, {"accuracy": MetricSum(total=2.0, weight=3)})


async def made_by(folder: Path, trainer: Trainer, kind: TaskKind = TaskKind.TRAIN, **changes: Any) -> LocalUpdate:
    the_job = job(privacy={"release": "sum"}, terms={"rounds": 1, "retries": 0}, **changes)
    return await Compute(the_job, "a", trainer, folder)(task_of(kind))


def content(made: LocalUpdate) -> bytes:
    assert made.tensor_file is not None
    return made.tensor_file.read_bytes()


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_site_says_nothing_beside_the_file_and_weighs_what_is_in_it(tmp_path: Path) -> None:
    made = await made_by(tmp_path, Trainer(OUTCOME))
    assert (made.update.samples, made.update.metrics, made.update.validation) == (0, {}, {})
    assert made.samples == 7 and made.tensor_file is not None
    data = content(made)
    assert (made.update.model, made.update.model_bytes) == (blob_hash(data), len(data))
    found = decode(data)
    assert schema_of(found) == update_schema(SUMMED, TaskKind.TRAIN)
    np.testing.assert_array_equal(found.pop("weight"), np.full(3, 7 * 1.5))
    assert {name: float(value) for name, value in found.items()} == {
        "#samples": 7, "#weight": 7, "#metric/loss/total": 0.5, "#metric/loss/weight": 7,
        "#validation/accuracy/total": 2, "#validation/accuracy/weight": 3, "count": 28,
    }  # fmt: skip
    assert names_in(tmp_path) == [made.tensor_file.name]


async def test_what_is_measured_leaves_in_a_file_of_its_own(tmp_path: Path) -> None:
    made = await made_by(tmp_path, Trainer(Outcome(SampleCounts(0, 3), {}, OUTCOME.validation)), TaskKind.EVALUATE)
    assert made.tensor_file is not None and made.update.validation == {}
    found = {name: float(value) for name, value in decode(content(made)).items()}
    assert found == {"#validation/accuracy/total": 2, "#validation/accuracy/weight": 3}


@pytest.mark.parametrize(
    ("trainer", "words", "code"),
    [
        (Trainer(OUTCOME, np.nan), "tensor weight of the update", ErrorCode.NOT_FINITE),
        (Trainer(OUTCOME, 1e308), "tensor weight of the update", ErrorCode.NOT_FINITE),
        (
            Trainer(Outcome(COUNTED, {"name": ONE}, {})),
            "metric name: is not in the job",
            ErrorCode.PLAN_ERROR,
        ),
        (
            Trainer(Outcome(COUNTED, {"loss": MetricSum(total=1e250, weight=1)}, {})),
            "beyond float32",
            ErrorCode.NOT_FINITE,
        ),
        (
            Trainer(Outcome(COUNTED, {"loss": MetricSum(total=1, weight=8)}, {})),
            "counts 8 of 7 samples",
            ErrorCode.PLAN_ERROR,
        ),
        (
            Trainer(Outcome(COUNTED, {}, {"accuracy": MetricSum(total=1, weight=4)})),
            "counts 4 of 3 samples",
            ErrorCode.PLAN_ERROR,
        ),
        (Trainer(Outcome(SampleCounts(0, 0), {}, {})), "cannot be added up", ErrorCode.BAD_UPDATE),
    ],
)
async def test_what_cannot_be_added_fails_at_its_site_and_leaves_no_file(
    tmp_path: Path, trainer: Trainer, words: str, code: ErrorCode
) -> None:
    with pytest.raises(ArchipelError, match=words) as caught:
        await made_by(tmp_path, trainer)
    assert caught.value.code is code and not names_in(tmp_path)


async def test_nothing_is_trained_for_a_strategy_that_sums_are_not_enough_for(tmp_path: Path) -> None:
    trainer = Trainer(OUTCOME)
    with registered(), pytest.raises(BadInput, match="strategy median needs each site's own update"):
        await made_by(tmp_path, trainer, strategy={"name": "median"})
    with pytest.raises(BadInput, match="strategy median: is not known here"):
        await made_by(tmp_path, trainer, strategy={"name": "median"})
    assert not trainer.asked


# The server's end


def addend(samples: int, weights: float, **fields: float) -> bytes:
    """A site's file: what numpy makes of it, not what a site would."""
    own = UpdateSums(
        samples,
        float(samples),
        {"loss": MetricSum(total=samples * 0.5, weight=float(samples))},
        {"accuracy": MetricSum(total=1.0, weight=2.0)},
    )
    numbers = addend_of(SUMMED, TaskKind.TRAIN, own).fields | fields
    model = {"weight": np.full(3, samples * weights), "count": np.asarray(samples * 4.0)}
    return encode(model | {name: np.asarray(number, np.float64) for name, number in numbers.items()})


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


async def deliver(scene: Scene, site: str, task: Task, data: bytes) -> None:
    path = put(scene.folder / f"spool-{site}-{task.key.attempt}-{task.key.kind}", data)
    update = scene.update(site, task, blob_hash(data), len(data), samples=0, metrics={})
    await scene.send(site, update, path)


async def test_the_round_is_the_weighted_mean_and_its_record_has_only_sums(tmp_path: Path) -> None:
    scene = Scene(tmp_path, SUMMED)
    scene.start()
    task = await scene.task()
    for site, (samples, weights) in SITES.items():
        await deliver(scene, site, task, addend(samples, weights))
    measuring = await scene.task(1, 1, TaskKind.EVALUATE)
    for site in SITES:
        numbers = {"#validation/accuracy/total": np.asarray(1.5), "#validation/accuracy/weight": np.asarray(2.0)}
        await deliver(scene, site, measuring, encode(numbers))
    assert await scene.ended() is ExperimentState.FINISHED
    samples, values = zip(*SITES.values(), strict=True)
    np.testing.assert_allclose(scene.weights(), np.full(3, np.average(values, weights=samples)), rtol=1e-15)
    assert int(decode(scene.store.models[scene.store.model].read_bytes())["count"]) == 4
    trained, measured = scene.store.records
    assert (trained.samples, trained.metrics) == (10, {"loss": MetricSum(total=5.0, weight=10.0)})
    assert trained.validation == {"accuracy": MetricSum(total=3.0, weight=6.0)}
    assert measured.validation == {"accuracy": MetricSum(total=4.5, weight=6.0)}
    for part in (*trained.sites.values(), *measured.sites.values()):
        assert (part.samples, part.metrics, part.validation) == (None, {}, {})
    assert not [name for name in names_in(tmp_path) if name.startswith("spool")], (
        "what a site sent is gone with its round"
    )


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (addend(3, np.inf), "tensor weight of the sum of the updates is NaN or infinite"),
        (addend(3, 1.0, **{"#metric/loss/total": np.nan}), "#metric/loss/total adds up to nan"),
        (addend(3, 1.0, **{"#weight": -100.0}), "#weight adds up to -93"),
        (addend(3, 1.0, **{"#weight": -7.0}), "has no weight"),
        (addend(3, 1e300, **{"#weight": -7.0 + 1e-15}), "tensor weight of the sum of the updates is NaN or infinite"),
        (addend(3, 1.0, **{"#samples": 1e300}), "#samples adds up to 1e+300"),
        (addend(3, 1.0, **{"#samples": -6.5}), "#samples adds up to 0.5"),
        (addend(3, 1.0, **{"#metric/loss/total": 1e250}), "metric loss adds up to 1e+250"),
        (addend(3, 1.0, **{"#metric/loss/weight": 1e300}), "metric loss adds up to"),
    ],
)
async def test_a_bad_part_fails_the_round_and_names_no_site(tmp_path: Path, bad: bytes, words: str) -> None:
    scene = Scene(tmp_path, SUMMED)
    scene.start()
    task = await scene.task()
    for site in ("a", "c"):
        await deliver(scene, site, task, addend(*SITES[site]))
    await deliver(scene, "b", task, bad)
    assert await scene.ended() is ExperimentState.PAUSED
    assert words in scene.store.reason
    [record] = scene.store.records
    assert not record.committed and (record.samples, record.metrics, record.validation) == (0, {}, {})
    assert {part.state for part in record.sites.values()} == {ParticipantStatus.DELIVERED}
    assert not any(part.failure for part in record.sites.values())
    assert scene.store.model == SUMMED.initial_model == blob_hash(encode(MODEL))
