from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from plan_jobs import job_for, table, task_for, tensor_file

from archipel.plans import Plan, TrainingResult, load
from archipel.plans.runtime import PlanRuntime
from archipel.tensors import decode, encode
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    DataNeeds,
    ErrorCode,
    MetricSpec,
    MetricSum,
    OptimiserState,
    TaskKind,
)

TINY = Path(__file__).parents[2] / "examples" / "tiny_numpy.py"


@pytest.fixture
def tiny(tmp_path):
    plan = load(TINY)
    cohort = table(tmp_path)
    job = job_for(plan)
    runtime = PlanRuntime(plan, job, "site-a", tmp_path, cohort)
    runtime.prepare()
    return plan, job, runtime


def train(runtime, task, model, state=None):
    result = memoryview(bytearray(len(model)))
    return runtime.train(task, model, result, state), result


def test_a_tiny_plan_trains_validates_and_keeps_its_state(tiny):
    plan, job, runtime = tiny
    outcome, result = train(runtime, task_for(job), tensor_file(plan))
    assert outcome.samples == (len(plan.training.ids), len(plan.held_out.ids), 4)
    assert outcome.validation["accuracy"].weight == len(plan.held_out.ids) > 0
    assert outcome.state is not None and decode(outcome.state)["momentum"].any()
    trained = decode(result)
    assert trained["steps_taken"] == 5 and trained["steps_taken"].dtype == np.int64


def test_a_model_that_is_trained_in_place_gives_the_same_bytes(tiny, tmp_path):
    plan, job, runtime = tiny
    outcome, beside = train(runtime, task_for(job), tensor_file(plan))
    again = PlanRuntime(load(TINY), job, "site-a", tmp_path, runtime.cohort)
    again.prepare()
    memory = memoryview(bytearray(tensor_file(plan)))
    assert again.train(task_for(job), memory, memory, None) == outcome
    assert bytes(memory) == bytes(beside)


def test_the_same_task_gives_the_same_bytes_in_a_worker_that_was_restarted(tiny, tmp_path):
    plan, job, runtime = tiny
    first, one = train(runtime, task_for(job), tensor_file(plan))
    second, two = train(runtime, task_for(job, round_=1), one, first.state)
    again = PlanRuntime(load(TINY), job, "site-a", tmp_path, runtime.cohort)
    again.prepare()
    resumed, three = train(again, task_for(job, round_=1), one, first.state)
    assert bytes(two) == bytes(three) and second == resumed


def test_local_training_of_three_passes_is_three_rounds_of_one_site(tiny):
    plan, job, runtime = tiny
    model, state = tensor_file(plan), None
    for round_ in range(3):
        outcome, model = train(runtime, task_for(job, round_=round_), model, state)
        state = outcome.state
    local, result = train(runtime, task_for(job, TaskKind.LOCAL, passes=3), tensor_file(plan), state)
    assert bytes(result) == bytes(model)
    assert local.state is None


def test_reset_starts_each_pass_with_a_fresh_optimiser(tmp_path):
    plan = load(TINY)
    plan.optimiser_state = OptimiserState.RESET
    cohort = table(tmp_path)
    runtime = PlanRuntime(plan, job_for(plan), "site-a", tmp_path, cohort)
    runtime.prepare()
    outcome, one = train(runtime, task_for(runtime.job), tensor_file(plan))
    assert outcome.state is None
    _, again = train(runtime, task_for(runtime.job), tensor_file(plan))
    assert bytes(one) == bytes(again)


def test_an_ensemble_is_evaluated_on_all_its_models(tiny):
    plan, job, runtime = tiny
    outcome = runtime.evaluate(task_for(job, TaskKind.EVALUATE, passes=0), [tensor_file(plan), tensor_file(plan, 1)])
    assert set(outcome.validation) == {"accuracy"}


def test_without_validation_subjects_nothing_is_validated(tmp_path):
    plan = load(TINY)
    runtime = PlanRuntime(plan, job_for(plan, validation_fraction=0.0), "site-a", tmp_path, table(tmp_path))
    runtime.prepare()
    assert train(runtime, task_for(runtime.job), tensor_file(plan))[0].validation == {}


def test_a_changed_file_is_named_before_training(tmp_path):
    plan = load(TINY)
    cohort = table(tmp_path)
    table(tmp_path, seed=1)
    with pytest.raises(BadInput, match=r"table\.npz: has another row for subject p-000") as caught:
        PlanRuntime(plan, job_for(plan), "site-a", tmp_path, cohort).prepare()
    assert caught.value.code is ErrorCode.DATA_CHANGED


def test_a_plan_that_declares_other_metrics_than_its_job_is_refused(tmp_path):
    plan = load(TINY)
    job = job_for(plan, metrics=(MetricSpec(name="other", better="lower"),))
    with pytest.raises(BadInput, match="declares metrics that differ from the job"):
        PlanRuntime(plan, job, "site-a", tmp_path, table(tmp_path))


class Odd(Plan):
    """Does to its model whatever a test wants."""

    needs = DataNeeds(kind="arrays")
    deed = staticmethod(lambda model: None)
    reported: object = None

    def initial_model(self, seed):
        return {"weight": np.zeros(3, np.float32), "count": np.zeros((), np.int64)}

    def prepare(self, training, validation, context):
        pass

    def train(self, model, context):
        type(self).deed(model)
        metrics = {} if self.reported is None else self.reported()
        return TrainingResult(metrics=metrics)


@pytest.mark.parametrize(
    ("deed", "code", "words"),
    [
        (lambda model: model.update(weight=np.zeros(4, np.float32)), ErrorCode.MODEL_CHANGED, r"\[3\] to float32"),
        (lambda model: model.update(weight=np.zeros(3)), ErrorCode.MODEL_CHANGED, r"to float64 \[3\]"),
        (lambda model: model.update(extra=np.zeros(3)), ErrorCode.MODEL_CHANGED, "parameter extra: was added"),
        (lambda model: model.pop("count"), ErrorCode.MODEL_CHANGED, "parameter count: was removed"),
        (lambda model: model["weight"].fill(np.nan), ErrorCode.NOT_FINITE, "parameter weight: is NaN"),
        (lambda model: model["weight"].__setitem__(1, np.inf), ErrorCode.NOT_FINITE, "parameter weight: is NaN"),
    ],
)
def test_a_model_that_changes_form_or_is_not_finite_is_refused(tmp_path, monkeypatch, deed, code, words):
    monkeypatch.setattr(Odd, "deed", staticmethod(deed))
    plan = Odd()
    runtime = PlanRuntime(plan, job_for(plan), "site-a", tmp_path, table(tmp_path))
    runtime.prepare()
    with pytest.raises(ArchipelError, match=words) as caught:
        train(runtime, task_for(runtime.job), tensor_file(plan))
    assert caught.value.code is code


def test_a_cohort_in_which_all_validate_has_nothing_to_train_on(tmp_path):
    cohort = table(tmp_path)
    cohort = cohort.model_copy(update={"validation": tuple(cohort.subjects)})
    plan = Odd()
    runtime = PlanRuntime(plan, job_for(plan), "site-a", tmp_path, cohort)
    runtime.prepare()
    with pytest.raises(BadInput, match="has no sample to train on in the cohort"):
        train(runtime, task_for(runtime.job), tensor_file(plan))


def test_an_array_put_in_place_of_the_frames_reaches_the_frame(tmp_path, monkeypatch):
    monkeypatch.setattr(Odd, "deed", staticmethod(lambda model: model.update(weight=np.arange(3, dtype=np.float32))))
    plan = Odd()
    runtime = PlanRuntime(plan, job_for(plan), "site-a", tmp_path, table(tmp_path))
    runtime.prepare()
    _, result = train(runtime, task_for(runtime.job), tensor_file(plan))
    assert decode(result)["weight"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("reported", "code", "words"),
    [
        (lambda: {"loss": MetricSum(total=float("nan"), weight=1)}, ErrorCode.NOT_FINITE, "is NaN or infinite"),
        (lambda: {"loss": MetricSum(total=1.0, weight=1.5)}, ErrorCode.PLAN_ERROR, "has weight 1.5"),
        (lambda: {"loss": MetricSum(total=1.0, weight=-1)}, ErrorCode.PLAN_ERROR, "has weight -1"),
        (lambda: {"patient": MetricSum(total=1, weight=1)}, ErrorCode.PLAN_ERROR, "reports metric patient"),
    ],
)
def test_a_metric_that_is_nan_or_undeclared_is_refused(tmp_path, monkeypatch, reported, code, words):
    monkeypatch.setattr(Odd, "deed", staticmethod(lambda model: None))
    plan = Odd()
    plan.reported = reported
    runtime = PlanRuntime(plan, job_for(plan), "site-a", tmp_path, table(tmp_path))
    runtime.prepare()
    with pytest.raises(ArchipelError, match=words) as caught:
        train(runtime, task_for(runtime.job), tensor_file(plan))
    assert caught.value.code is code


def test_a_method_that_returns_another_thing_than_a_result_is_named(tiny, monkeypatch):
    plan, job, runtime = tiny
    monkeypatch.setattr(plan, "train", lambda model, context: None)
    with pytest.raises(ArchipelError, match=r"method train: returned NoneType; return TrainingResult") as caught:
        train(runtime, task_for(job), tensor_file(plan))
    assert caught.value.code is ErrorCode.PLAN_ERROR
    monkeypatch.setattr(plan, "evaluate", lambda models, context: 0.5)
    with pytest.raises(ArchipelError, match=r"method evaluate: returned float; return a MetricSum by the name"):
        train(runtime, task_for(job), tensor_file(plan))


def test_a_method_that_a_plan_does_not_define_is_named(tiny, monkeypatch):
    plan, job, runtime = tiny
    monkeypatch.setattr(type(plan), "train", Plan.train)
    words = r"plan TinyPlan: does not define train; add the method train\(self, model, context\)"
    with pytest.raises(ArchipelError, match=words) as caught:
        train(runtime, task_for(job), tensor_file(plan))
    assert caught.value.code is ErrorCode.PLAN_ERROR


def test_a_hyper_parameter_that_is_not_declared_is_named_beside_those_that_are(tiny, monkeypatch):
    plan, job, runtime = tiny
    monkeypatch.setattr(plan, "train", lambda model, context: context.number("rate"))
    with pytest.raises(KeyError, match=r"no hyper-parameter rate; declared are: learning_rate, steps"):
        train(runtime, task_for(job), tensor_file(plan))


def test_a_frame_of_another_model_is_refused(tiny):
    _, job, runtime = tiny
    other = memoryview(encode({"weight": np.zeros(8)}))
    with pytest.raises(BadInput, match=r"tensor (bias|steps_taken|weight) .*"):
        train(runtime, task_for(job), other)
