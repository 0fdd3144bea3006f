"""From a plan to a job: what the plan declares, the terms a researcher chooses and the sites' keys in one document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import numpy as np
from pydantic import ValidationError

from archipel.plans.base import Model
from archipel.plans.loading import load_own, plan_errors_named
from archipel.plans.packaging import PackagedPlan, package
from archipel.plans.partition import parts_of
from archipel.plans.source import bad_plan
from archipel.plans.starting_model import StartingModel
from archipel.tensors import blob_hash, encode, schema_of
from archipel.vocabulary import (
    BadInput,
    Baselines,
    FrozenPart,
    GpuTerms,
    Job,
    LocalPart,
    PrivacyTerms,
    RosterEntry,
    RoundTerms,
    StrategyTerms,
    Thing,
    Value,
    WorkerLimits,
)
from archipel.vocabulary.bounds import EXACT
from archipel.vocabulary.wrong_values import wrong_value


class ResearchersTerms(TypedDict, total=False):
    """Fields of ``Job`` that a researcher chooses and a plan does not settle; one left out has the job's default."""

    title: str
    description: str
    validation_fraction: float
    strategy: StrategyTerms
    privacy: PrivacyTerms
    limits: WorkerLimits
    gpu: GpuTerms | None


NO_ENSEMBLE = "no ensemble: a part of each local model stays at its site"
"""What a researcher reads who asked for all baselines."""


class Draft(NamedTuple):
    """A job with the plan and the tensor files that it names: the initial model, or its parts where it has several."""

    job: Job
    plan: PackagedPlan
    initial_model: bytes
    frozen: bytes | None = None
    local: bytes | None = None

    @property
    def blobs(self) -> dict[str, bytes]:
        """Everything that the job names by hash."""
        parts = [part for part in (self.initial_model, self.frozen, self.local) if part is not None]
        return {**self.plan.files.blobs, **dict(zip(self.job.starting_blobs, parts, strict=True))}


def draft(
    plan: Path,
    *,
    experiment: str,
    roster: Sequence[RosterEntry],
    server_key: str,
    seed: int = 0,
    class_name: str | None = None,
    entry: str | None = None,
    arguments: Mapping[str, Value] | None = None,
    start_from: StartingModel | None = None,
    terms: RoundTerms,
    baselines: Baselines | bool = False,
    **further: Unpack[ResearchersTerms],
) -> Draft:
    """Run the researcher's own plan here to make its initial model from ``seed``, and write the job.

    ``plan``, ``class_name`` and ``entry`` say which plan, as for ``package``. The job starts from ``start_from``, where
    one is given, and the plan's own model only says which tensors that one must have.
    ``baselines`` True are all that there can be: of models with a local part there is no ensemble.
    Raises BadInput for a plan that cannot be loaded, arguments outside their bounds, terms that do not fit together,
    and a model to start from that does not fit the plan.
    """
    packaged = package(plan, class_name, entry)
    _check_seed(seed)
    if "validation_fraction" in further:
        _check_fraction(further["validation_fraction"])
    loaded = load_own(packaged)
    with plan_errors_named(packaged):
        model = _model_of_arrays(loaded.initial_model(seed))
    if start_from is not None:
        model = start_from.fitted(schema_of(model))
    with plan_errors_named(packaged):
        parts = parts_of(loaded, model)
    tensor_file = encode(parts.sent)
    frozen = encode(parts.frozen) if parts.frozen else None
    local = encode(parts.local) if parts.local else None
    if isinstance(baselines, bool):
        baselines = Baselines(local=baselines, ensemble=baselines and local is None)
    if start_from is not None:
        start_from.check_part(blob_hash(tensor_file))
    try:
        job = Job(
            experiment=experiment,
            plan=packaged.reference,
            initial_model=blob_hash(tensor_file),
            lineage=None if start_from is None else start_from.lineage,
            tensors=schema_of(parts.sent),
            frozen=FrozenPart(tensors=schema_of(parts.frozen), blob=blob_hash(frozen)) if frozen else None,
            local=LocalPart(tensors=schema_of(parts.local), blob=blob_hash(local)) if local else None,
            needs=loaded.needs,
            metrics=loaded.metrics,
            validation=loaded.validation,
            parameters=loaded.hyper_parameters,
            arguments=loaded.arguments(arguments),
            optimiser_state=loaded.optimiser_state,
            selection=loaded.selection,
            seed=seed,
            roster=tuple(roster),
            server_key=server_key,
            terms=terms,
            baselines=baselines,
            **further,
        )
    except ValidationError as error:
        wrong = wrong_value(error, Job)
        raise BadInput(
            Thing.worded(f"job {experiment}: {wrong.place}", experiment=experiment, where=wrong.place)
            if wrong.place
            else Thing("job", experiment),
            wrong.cause,
            f"{wrong.remedy}; then create the job again",
        ) from error
    return Draft(job, packaged, tensor_file, frozen, local)


def _model_of_arrays(model: Model) -> Model:
    """The model that a plan made, when it is a dictionary of named arrays; numbers such as ``0.0`` are not."""
    thing, remedy = "initial_model", 'return numpy arrays by their names, such as {"bias": np.zeros(1)}'
    if not isinstance(model, dict):
        raise bad_plan(thing, f"returns {type(model).__name__}, not a dictionary of arrays", remedy)
    for name, array in model.items():
        if not isinstance(array, np.ndarray):
            raise bad_plan(f"{thing}, {name}", f"is {type(array).__name__}, not a numpy array", remedy)
    return model


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < EXACT:
        raise BadInput(
            Thing.worded(f"seed={seed!r}", seed=seed), "is not a seed", f"give a whole number from 0 to {EXACT - 1}"
        )


def _check_fraction(fraction: float) -> None:
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction < 1:
        cause = "is not a share of the subjects"
        raise BadInput(
            Thing.worded(f"validation_fraction {fraction!r}", validation_fraction=fraction),
            cause,
            "give a number from 0 to below 1, such as 0.2",
        )
