"""Plan: what a researcher writes and a site runs. This base needs numpy only.

A plan is a class in one Python file. Its class attributes declare what goes into the job, so that a site approves it:
what data it needs, which numbers it reports, which hyper-parameters it has and within which bounds. Its methods work
on a model that is a dictionary of numpy arrays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from archipel.data import SubjectSet
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    DataNeeds,
    ErrorCode,
    HyperParameter,
    MetricSpec,
    MetricSum,
    OptimiserState,
    Part,
    Selection,
    Thing,
    Value,
    check_arguments,
)

Array = NDArray[Any]
Model = dict[str, Array]
"""A model: its parameters and buffers by name."""
# Plan classes that need torch, each with the module that is imported when the class is first used.
TORCH_PLANS = {"TorchPlan": "archipel.plans.torch", "SegmentationPlan": "archipel.plans.segmentation"}


def is_plan_of(plan: object, base: str) -> bool:
    """Whether a plan derives from ``TorchPlan`` or ``SegmentationPlan``, found without importing torch."""
    return any(cls.__name__ == base and cls.__module__ == TORCH_PLANS[base] for cls in type(plan).__mro__)


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**63) for these parts, for example (job seed, site, round); different parts, unrelated seeds."""
    text = "\0".join(["archipel-seed/1", *(str(part) for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class Context:
    """Where and when a plan runs. ``seed`` already follows from (job seed, site, round); draw only from it.

    ``device`` is what networks compute on, as torch names it: ``cpu``, or ``cuda`` where the job asks for a GPU and the
    site has one.

    >>> context = Context(site="charite", seed=7, round=1, rounds=20, arguments={"learning_rate": 0.01})
    >>> context.number("learning_rate")
    0.01
    >>> context.generator("shuffle").permutation(3).shape
    (3,)
    """

    site: str
    seed: int
    round: int
    rounds: int
    arguments: Mapping[str, Value]
    threads: int = 1
    device: str = "cpu"

    def number(self, name: str) -> float:
        """A numeric hyper-parameter's value in this round. Raises KeyError when the plan declares none so named."""
        if name not in self.arguments:
            declared = ", ".join(self.arguments) or "none"
            raise KeyError(f"the plan declares no hyper-parameter {name}; declared are: {declared}")
        return float(self.arguments[name])

    def generator(self, *parts: object) -> np.random.Generator:
        """A numpy generator of this round; ``parts`` name independent streams."""
        return np.random.default_rng(derive_seed(self.seed, *parts))


@dataclass(frozen=True)
class TrainingResult:
    """What training reports: metric sums.

    How many samples a model was trained on is not among them: the site counts those of its cohort itself.

    >>> result = TrainingResult(metrics={"loss": MetricSum(total=5.0, weight=20.0)})
    >>> result.metrics["loss"].mean()
    0.25
    """

    metrics: Mapping[str, MetricSum] = field(default_factory=dict)


class Plan:
    """Base of every plan.

    A subclass must declare ``needs`` and define ``initial_model``, ``prepare`` and ``train``. To be validated it also
    declares the metrics in ``validation`` and defines ``evaluate``; to predict it defines ``predict``. With
    ``optimiser_state`` continue-local it defines ``state`` and ``restore``. It has no ``__init__`` of its own with
    parameters, and draws only from ``Context``.

    The runtime calls ``prepare`` once in a worker's life, then for each round ``restore``, ``train`` and ``state``.
    The random streams of a round are the same however often a worker was restarted before it.

    >>> class MeanPlan(Plan):
    ...     needs = DataNeeds(kind="arrays")
    ...
    ...     def initial_model(self, seed):
    ...         return {"mean": np.zeros(2)}
    ...
    ...     def prepare(self, training, validation, context):
    ...         self.values = training.arrays()["x"]
    ...
    ...     def train(self, model, context):
    ...         model["mean"][:] = self.values.mean(axis=0)
    ...         return TrainingResult()
    >>> MeanPlan().initial_model(seed=0)["mean"].shape
    (2,)
    """

    needs: ClassVar[DataNeeds]
    metrics: ClassVar[tuple[MetricSpec, ...]] = (MetricSpec(name="loss", better="lower"),)
    validation: ClassVar[tuple[MetricSpec, ...]] = ()
    hyper_parameters: ClassVar[tuple[HyperParameter, ...]] = ()
    optimiser_state: ClassVar[OptimiserState] = OptimiserState.RESET
    selection: ClassVar[Selection | None] = None

    def initial_model(self, seed: int) -> Model:
        """The model of round 0, made on the researcher's machine from the job's seed.

        It takes no hyper-parameters: these may change between rounds, a model's names and shapes may not.
        """
        raise _not_defined(self, "initial_model", "seed")

    def partition(self, name: str, array: Array) -> Part:
        """The part of the model to which a tensor belongs, by its name, type and shape; here: everything is sent.

        What is ``Part.FROZEN`` keeps the values of ``initial_model``: each site fetches it, no round changes it, and it
        never leaves a site. ``Part.LOCAL`` starts from the values of ``initial_model`` at every site, is trained there
        and stays there. ``train`` and ``evaluate`` are given the whole model, the frozen arrays read-only.
        """
        return Part.SENT

    def prepare(self, training: SubjectSet, validation: SubjectSet, context: Context) -> None:
        """Read what training needs into memory, once."""
        raise _not_defined(self, "prepare", "training, validation, context")

    def train(self, model: Model, context: Context) -> TrainingResult:
        """Train for one round, changing the model's arrays in place."""
        raise _not_defined(self, "train", "model, context")

    def evaluate(self, models: Sequence[Mapping[str, Array]], context: Context) -> dict[str, MetricSum]:
        """Metric sums over the validation subjects for one model, or for the ensemble of several.

        An ensemble may have thousands of models. Go through them in order, ``for model in models``, at most once for
        each sample that you validate on, and keep what each predicts and not its arrays: a model is read when it is
        asked for, and read again when asked for again.
        """
        return {}

    def predict(
        self, models: Sequence[Mapping[str, Array]], subjects: SubjectSet, context: Context
    ) -> Mapping[str, Array]:
        """What one model, or the ensemble of several, says about each of the subjects: columns by name, each numbers
        or texts ``[N, ...]`` in the order of the subjects. Only ``archipel predict`` calls it, never a site.

        The target of a subject may be a stand-in, because the truth is not known. Here it raises BadInput.
        """
        raise BadInput(
            Thing("plan", type(self).__name__),
            "does not say how it predicts: it defines no predict()",
            'define predict(self, models, subjects, context), which returns columns such as {"risk": one number per '
            "sample}",
            code=ErrorCode.BAD_PLAN,
        )

    def state(self) -> Model:
        """What the next round continues from (``optimiser_state`` continue-local): arrays that stay at the site."""
        return {}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Continue from an earlier ``state()``; an empty one means a fresh start."""

    @classmethod
    def arguments(cls, given: Mapping[str, Value] | None = None) -> dict[str, Value]:
        """Every hyper-parameter's value: given or default. Raises BadInput for unknown names and broken bounds."""
        return check_arguments(cls.hyper_parameters, given or {})


def _not_defined(plan: Plan, method: str, arguments: str) -> ArchipelError:
    cause, remedy = f"does not define {method}", f"add the method {method}(self, {arguments}) to the class"
    return ArchipelError(Thing("plan", type(plan).__name__), cause, remedy, code=ErrorCode.PLAN_ERROR)
