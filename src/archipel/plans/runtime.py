"""PlanRuntime: runs a plan on one site's cohort, task by task, with tensor files in and a tensor file out.

It runs wherever a plan runs: in the sandboxed worker of a deployed site and inside a simulation. It derives the seed of
each pass, keeps or resets the optimiser's state, and refuses results that a server must not add up: parameters that are
not finite or whose names, types or shapes changed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from archipel.data import (
    Cohort,
    RawSource,
    SampleCounts,
    Source,
    SubjectSet,
    format_named,
    split,
    usable,
    verify,
    with_declared_columns,
)
from archipel.plans.base import Array, Context, Model, Plan, TrainingResult, derive_seed
from archipel.plans.in_turn import ReadingOrder, ReadInTurn
from archipel.plans.kept_state import divided
from archipel.plans.partition import frozen_changed, parts_of, same_bits
from archipel.tensors import decode, encode, is_finite, is_floating, schema_of, views
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    ErrorCode,
    Job,
    MetricSpec,
    MetricSum,
    OptimiserState,
    Task,
    TaskKind,
    TensorSchema,
    Thing,
    TrainingPass,
)

T = TypeVar("T")
_NO_TENSORS = TensorSchema(tensors=())


@dataclass(frozen=True)
class Outcome:
    """The result of a task besides the tensor file of the model.

    ``samples`` are those of the cohort, counted beside the plan and never by it. ``state`` is what the site keeps, see
    ``kept_state``, or None.
    """

    samples: SampleCounts
    metrics: dict[str, MetricSum] = field(default_factory=dict)
    validation: dict[str, MetricSum] = field(default_factory=dict)
    state: bytes | None = None


class PlanRuntime:
    """One plan, one job, one site's cohort: ``data`` is the folder of its dataset, or what was prepared from it.

    ``device`` is what the plan's networks compute on, as torch names it.
    """

    def __init__(
        self, plan: Plan, job: Job, site: str, data: Path | Source, cohort: Cohort, device: str = "cpu"
    ) -> None:
        _check_same_terms(plan, job)
        self.device = device
        self.plan, self.job, self.site, self.data, self.cohort = plan, job, site, data, cohort
        self._samples = SampleCounts(0, 0)
        self._frozen: Mapping[str, Array] = {}

    def freeze(self, frozen: memoryview) -> None:
        """Take the frozen part of the job's model, before any task of a job that has one: a tensor file that stays as
        it is from now on. Raises BadInput when it has other tensors than the job says.
        """
        if self.job.frozen is None:
            raise ValueError("the job's model has no frozen part")
        self._frozen = views(self.job.frozen.tensors, frozen)

    def prepare(self) -> None:
        """Verify a cohort's files, split it and let the plan read it. Call once before any task.

        Prepared samples were verified when they were prepared.

        Raises BadInput for changed data, another kind of dataset than the plan needs, or too few subjects.
        """
        needs = self.job.needs
        kind = format_named(self.cohort.format).kind
        if kind != needs.kind:
            raise BadInput(
                Thing("dataset", self.cohort.dataset),
                f"is of kind {kind}",
                f"the plan needs {needs.kind}",
                code=ErrorCode.BAD_DATA,
                values={"kind": kind, "needed": needs.kind},
            )
        complete = len(usable(self.cohort, needs).subjects)
        if complete < needs.minimum_subjects:
            left_out = len(self.cohort.subjects) - complete
            raise BadInput(
                Thing("dataset", self.cohort.dataset),
                f"has {complete} subjects in the cohort"
                + (f" ({left_out} others lack a column and are left out)" if left_out else ""),
                f"the plan needs at least {needs.minimum_subjects}",
                code=ErrorCode.BAD_DATA,
                values={"subjects": complete, "needed": needs.minimum_subjects},
            )
        source, shown = self.data, with_declared_columns(self.cohort, needs)
        if isinstance(source, Path):
            verify(source, self.cohort)
            source = RawSource(source, shown)
        self.give(*split(source, shown, self.job.validation_fraction, needs))

    def give(self, training: SubjectSet, validation: SubjectSet) -> None:
        """Let the plan read these samples, in place of any that it was given before."""
        self._samples = SampleCounts(len(training), len(validation), validation.patients)
        self.plan.prepare(training, validation, self._context(TrainingPass(round=0, arguments=self.job.arguments)))

    def begin(self, result: memoryview, *beside: memoryview) -> None:
        """Write the plan's own initial model, for the job's seed, as a tensor file, and ``beside`` it one of the part
        that is frozen and one of the part that is local, where the job has them; tasks then work with this frozen part.

        Raises ArchipelError (code ``plan-error``) when it has not the job's tensors.
        """
        job, parts = self.job, parts_of(self.plan, self.plan.initial_model(self.job.seed))
        others = [(parts.frozen, job.frozen), (parts.local, job.local)]
        if schema_of(parts.sent) != job.tensors or any(
            schema_of(made) != (_NO_TENSORS if named is None else named.tensors) for made, named in others
        ):
            raise _plan_error("initial_model returned other tensors", "make the job from this plan again")
        result[:] = encode(parts.sent)
        written = [encode(made) for made, named in others if named is not None]
        for window, tensor_file in zip(beside, written, strict=True):
            window[:] = tensor_file
        if job.frozen is not None:
            self.freeze(memoryview(written[0]))

    def train(self, task: Task, model: memoryview, result: memoryview, state: bytes | None) -> Outcome:
        """Train the ``model`` tensor file into the writable ``result`` tensor file of the same size. If they are the
        same object, it is trained in place and copied nowhere.

        A TRAIN task validates the incoming model first and makes one pass; a LOCAL task makes all its passes with
        the same seeds and optimiser treatment, from a fresh optimiser. ``state`` is what the site kept, see
        ``kept_state``; a job with a local part always needs one. Raises ArchipelError with code ``not-finite``
        when a loss or a parameter is NaN or infinite, ``plan-error`` when the plan changed names, types or shapes.
        """
        alone = task.key.kind is TaskKind.LOCAL
        validation = {} if alone else self.evaluate(task, [model], state).validation
        given, optimiser = divided(self.job, state)
        own_file = bytearray(given or b"")
        own = self._own(memoryview(own_file), writable=True)
        self._check_parts(views(self.job.tensors, model), own)
        if model is not result:
            result[:] = model
        arrays = views(self.job.tensors, result, writable=True)
        kept: Mapping[str, Array] = {} if alone or optimiser is None else decode(optimiser)
        continues = self.job.optimiser_state is OptimiserState.CONTINUE_LOCAL
        trained = TrainingResult()
        if not self._samples.training:
            raise no_training_samples(self.cohort.dataset)
        for training_pass in task.passes:
            self.plan.restore(kept if continues else {})
            trained = self._one_pass(training_pass, arrays, own)
            kept = self.plan.state() if continues else {}
        if not isinstance(trained, TrainingResult):
            raise _wrong_return("train", trained, "return TrainingResult(metrics={...})")
        metrics = _declared(trained.metrics, self.job.metrics, "train")
        keeps = bytes(own_file) + (encode(kept) if continues and not alone else b"")
        return Outcome(self._samples, metrics, validation, keeps or None)

    def evaluate(self, task: Task, models: Sequence[memoryview], state: bytes | None = None) -> Outcome:
        """Validate one model, or the ensemble of several, on this site's validation subjects.

        The plan is given ``models`` as a sequence that reads each when the plan asks for it. A model of which a part is
        local is made whole with this site's own, which ``state`` begins with; one that has its local part at another
        site is not measured.
        """
        if not (self._samples.validation and self.job.validation and self.job.is_measured_at(task.key, self.site)):
            return Outcome(self._samples)
        own = self._own(memoryview(divided(self.job, state)[0] or b""))
        training_pass = (
            task.passes[0] if task.passes else TrainingPass(round=task.key.round, arguments=self.job.arguments)
        )
        order = ReadingOrder(len(models), times=self._samples.validation)

        def read(number: int) -> Model:
            if not order.allows(number):
                cause = "were read out of order, or more often than there are samples to validate on"
                remedy = "go through them from the first to the last, at most once for each batch: for model in models"
                raise ArchipelError("the models of an ensemble", cause, remedy, code=ErrorCode.PLAN_ERROR)
            return self._whole(views(self.job.tensors, models[number]), own)

        tensor_files = ReadInTurn(len(models), read)
        metrics = _finite_or_error(lambda: self.plan.evaluate(tensor_files, self._context(training_pass)))
        _wait_for_devices()
        if not isinstance(metrics, Mapping):
            raise _wrong_return("evaluate", metrics, "return a MetricSum by the name of each metric")
        return Outcome(self._samples, validation=_declared(metrics, self.job.validation, "evaluate"))

    def _context(self, one: TrainingPass) -> Context:
        return Context(
            site=self.site,
            seed=derive_seed(self.job.seed, self.site, one.round),
            round=one.round,
            rounds=self.job.terms.rounds,
            arguments={**self.job.arguments, **one.arguments},
            threads=self.job.limits.threads,
            device=self.device,
        )

    def _own(self, local: memoryview, *, writable: bool = False) -> Model:
        """The arrays of this site's local part; none for a job without one."""
        if self.job.local is None:
            return {}
        if not len(local):
            raise ValueError("the local part of the job's model was not given")
        return views(self.job.local.tensors, local, writable=writable)

    def _whole(self, sent: Model, own: Model) -> Model:
        """A whole model: these arrays, and those of the frozen part, which nobody can write to."""
        if self.job.frozen is not None and not self._frozen:
            raise ValueError("the frozen part of the job's model was not given")
        return {**sent, **self._frozen, **own}

    def _check_parts(self, sent: Model, own: Model) -> None:
        """Check that the plan divides the model as the job does: the approval was for the job."""
        parts = parts_of(self.plan, self._whole(sent, own))
        if parts.frozen.keys() != self._frozen.keys():
            raise _plan_error("what partition() freezes", "make the job from this plan again")
        if parts.local.keys() != own.keys():
            raise _plan_error("what partition() keeps local", "make the job from this plan again")

    def _one_pass(self, training_pass: TrainingPass, arrays: Model, own: Model) -> TrainingResult:
        given, trains = self._whole(arrays, own), {**arrays, **own}
        trained = _finite_or_error(lambda: self.plan.train(given, self._context(training_pass)))
        _wait_for_devices()
        _write_back(given, trains, self._frozen)
        for name, array in trains.items():
            if is_floating(array.dtype) and not is_finite(array):
                raise ArchipelError(
                    Thing("parameter", name),
                    f"is NaN or infinite after round {training_pass.round}",
                    "lower the learning rate or look at the loss",
                    code=ErrorCode.NOT_FINITE,
                    values={"round": training_pass.round},
                )
        return trained


def _wait_for_devices() -> None:
    """Wait until a GPU has done what the plan gave it: once a task is answered its worker is stopped, and a stopped
    process does not stop its GPU.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def no_training_samples(dataset: str) -> BadInput:
    """The error for a cohort all of whose samples validate."""
    cause, remedy = "has no sample to train on in the cohort", "freeze a version in which some subjects train"
    return BadInput(Thing("dataset", dataset), cause, remedy, code=ErrorCode.BAD_DATA)


def _check_same_terms(plan: Plan, job: Job) -> None:
    """Check that the job and the plan declare the same: the approval was for the job."""
    pairs = {
        "data needs": (plan.needs, job.needs),
        "metrics": (plan.metrics, job.metrics),
        "validation metrics": (plan.validation, job.validation),
        "hyper-parameters": (plan.hyper_parameters, job.parameters),
    }
    for name, (declared, approved) in pairs.items():
        if declared != approved:
            raise BadInput(
                Thing("plan", job.plan.class_name),
                f"declares {name} that differ from the job",
                "make the job from this plan again",
                code=ErrorCode.BAD_PLAN,
                values={"declaration": name},
            )


def _write_back(given: Model, trained: Model, frozen: Mapping[str, Array]) -> None:
    """Bring arrays that the plan put in place of the tensor file's into the tensor file, if they fit it exactly.

    In place of a frozen array there may only be one that is equal.
    """
    arrays = {**trained, **frozen}
    for name in given.keys() | arrays.keys():
        if name not in arrays:
            raise _changed(f"parameter {name}", "was added during training")
        if name not in given:
            raise _changed(f"parameter {name}", "was removed during training")
        new, old = np.asarray(given[name]), arrays[name]
        if new.shape != old.shape or new.dtype != old.dtype:
            was, now = f"{old.dtype} {list(old.shape)}", f"{new.dtype} {list(new.shape)}"
            raise _changed(f"parameter {name}", f"changed from {was} to {now} during training")
        if name in frozen:
            if new is not old and not same_bits(new, old):
                raise frozen_changed(name)
        elif new is not old:
            old[...] = new


def _changed(thing: str, cause: str) -> ArchipelError:
    remedy = "a model keeps its names, types and shapes for a whole job; change the plan"
    return ArchipelError(thing, cause, remedy, code=ErrorCode.MODEL_CHANGED)


def _finite_or_error(work: Callable[[], T]) -> T:
    """Run the plan; a metric that must not be NaN is reported as that error."""
    try:
        return work()
    except ValidationError as error:
        if error.title == "MetricSum":
            raise _bad_metric(error) from error
        raise


def _bad_metric(error: ValidationError) -> ArchipelError:
    """The error for a metric sum that could not be made."""
    if any(part["type"] == "finite_number" for part in error.errors()):
        return not_finite("a metric")
    part = error.errors()[0]
    cause = f"has {part['loc'][-1]} {part['input']!r}: a weight is a whole number, and a total a number"
    remedy = "count whole samples in the weight; divide a weighted mean by its own weights first"
    return ArchipelError("a metric", cause, remedy, code=ErrorCode.PLAN_ERROR)


def not_finite(thing: str) -> ArchipelError:
    """The error for a loss or metric that is NaN or infinite."""
    remedy = "lower the learning rate, or look for bad volumes and divisions by zero in the loss"
    return ArchipelError(thing, "is NaN or infinite", remedy, code=ErrorCode.NOT_FINITE)


def _declared(found: Mapping[str, MetricSum], specs: Sequence[MetricSpec], where: str) -> dict[str, MetricSum]:
    """The metrics in the job's order, an AUC of all of its scores.

    Raises ArchipelError for a name that the job does not have, and for a metric without the values or the scores that
    the job asks for.
    """
    names = [spec.name for spec in specs]
    for name in found:
        if name not in names:
            raise _plan_error(f"{where} reports metric {name}", f"declare it; the job has {', '.join(names) or 'none'}")
    return {spec.name: spec.checked(found[spec.name].finished()) for spec in specs if spec.name in found}


def _wrong_return(method: str, returned: object, remedy: str) -> ArchipelError:
    cause = f"returned {type(returned).__name__}"
    return ArchipelError(f"the plan's method {method}", cause, remedy, code=ErrorCode.PLAN_ERROR)


def _plan_error(thing: str, remedy: str) -> ArchipelError:
    return ArchipelError(thing, "is not what the job says", remedy, code=ErrorCode.PLAN_ERROR)
