"""Downloaded models and the plan that they were trained with, checked to belong together.

A model is a ``.safetensors`` file, and its plan is in the folder ``<name>-plan`` beside it, as
``archipel experiment download`` writes both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from archipel.plans import Array, Context, PackagedPlan, Plan, derive_seed, draft, load_own
from archipel.plans.files import plan_folder, trained_with
from archipel.tensors import decode, schema_of
from archipel.vocabulary import (
    NO_KEY,
    BadInput,
    ErrorCode,
    Job,
    RosterEntry,
    RoundTerms,
    TensorSchema,
    TensorSpec,
    Thing,
    Value,
)
from archipel.vocabulary.counting import pluralise

LOCAL = "local"
"""The name of the one site of a job that is made for local data."""
_SUFFIX = ".safetensors"
Place = str | PathLike[str]


class UsedArgument(NamedTuple):
    """A hyper-parameter's value and where it is from: ``given`` by the caller, ``experiment`` for that with which the
    downloaded model was trained, ``plan`` for the plan's default.
    """

    value: Value
    source: str


@dataclass(frozen=True)
class OpenedModels:
    """A plan, a job of it for one local site, and the models: one, or several that are an ensemble. ``used`` are the
    job's hyper-parameters with their sources.
    """

    packaged: PackagedPlan
    plan: Plan
    job: Job
    models: Sequence[Mapping[str, Array]]
    used: Mapping[str, UsedArgument]

    @property
    def context(self) -> Context:
        """Where the plan predicts: round 1 of 1, the random streams of the local site."""
        job = self.job
        seed = derive_seed(job.seed, LOCAL, 1)
        return Context(LOCAL, seed, 1, 1, arguments=job.arguments, threads=job.limits.threads)


def open_models(
    model: Place | Sequence[Place],
    plan: Place | None = None,
    *,
    entry: str | None = None,
    plan_class: str | None = None,
    arguments: Mapping[str, Value] | None = None,
) -> OpenedModels:
    """The models of these files, or of folders with one model each, and their plan: by default the folder beside the
    first. The plan is run. What ``entry``, ``plan_class`` and ``arguments`` leave open is as the folder of a downloaded
    plan says.

    Raises BadInput for a file that is not a model, a plan that is missing or cannot be loaded, a model of another
    plan, and a plan with a local part: the file has only the initial values of it.
    """
    given = [model] if isinstance(model, str | PathLike) else list(model)
    if not given:
        raise BadInput("models", "none was given", "name at least one model file")
    files = [_model_file(Path(one)) for one in given]
    models = [_read(file) for file in files]
    place = _plan_of(files[0]) if plan is None else Path(plan)
    known = trained_with(place)
    if known is not None and (entry or known.entry, plan_class or known.class_name) != (known.entry, known.class_name):
        known = None
    if known is not None:
        entry, plan_class = known.entry, known.class_name
    trained, asked = {} if known is None else known.arguments, arguments or {}
    drafted = draft(
        place,
        entry=entry,
        class_name=plan_class,
        experiment=LOCAL,
        roster=[RosterEntry(site=LOCAL, identity_key=NO_KEY, dataset="data")],
        server_key=NO_KEY,
        terms=RoundTerms(rounds=1, quorum=1),
        arguments={**trained, **asked},
    )
    _check_is_whole(files[0], drafted.job)
    job = _in_one_part(drafted.job)
    for file, arrays in zip(files, models, strict=True):
        _check_fit(file, schema_of(arrays), job.tensors, drafted.plan.class_name)
    used = {
        name: UsedArgument(value, "given" if name in asked else "experiment" if name in trained else "plan")
        for name, value in job.arguments.items()
    }
    return OpenedModels(drafted.plan, load_own(drafted.plan), job, models, used)


def _check_is_whole(file: Path, job: Job) -> None:
    """Raise BadInput for a model whose plan keeps a part local: nobody but the sites has a trained one."""
    if job.local is None:
        return
    names = [spec.name for spec in job.local.tensors.tensors]
    raise BadInput(
        Thing("model", file),
        f"is not whole: the plan keeps {pluralise(len(names), 'tensor')} local to each site (such as {names[0]}), and "
        "the file has only their initial values",
        "start a job or a simulation from it (--start-from), which trains and measures a local part on the data there",
        code=ErrorCode.BAD_INPUT,
        values={"tensors": len(names)},
    )


def _in_one_part(job: Job) -> Job:
    """The job with nothing frozen: a downloaded model is whole, with its own frozen tensors, and is not trained."""
    if job.frozen is None:
        return job
    whole = TensorSchema.of([*job.tensors.tensors, *job.frozen.tensors.tensors])
    return job.model_copy(update={"tensors": whole, "frozen": None})


def _model_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*{_SUFFIX}"))
    if len(found) != 1:
        names = f"{len(found)} models ({', '.join(file.name for file in found)})" if found else f"no *{_SUFFIX}"
        raise BadInput(Thing.folder(path), f"holds {names}", f"name the {_SUFFIX} file of the model")
    return found[0]


def _plan_of(model: Path) -> Path:
    folder = plan_folder(model)
    if not folder.is_dir():
        raise BadInput(
            Thing("model", model),
            f"has no plan beside it (looked for {folder})",
            "download the model again, which brings its plan, or name the plan (--plan PATH, in Python plan=...)",
        )
    return folder


def _read(path: Path) -> Mapping[str, Array]:
    try:
        return decode(path.read_bytes())
    except OSError as error:
        cause, remedy = f"cannot be read ({error.strerror})", f"name a {_SUFFIX} file that was downloaded"
        raise BadInput(Thing("model", path), cause, remedy) from error
    except BadInput as error:
        raise BadInput(Thing("model", path), str(error), "download it again") from error


def _check_fit(model: Path, found: TensorSchema, asked: TensorSchema, plan: str) -> None:
    there, needed = ({spec.name: spec for spec in schema.tensors} for schema in (found, asked))
    for name in sorted(there.keys() | needed.keys()):
        if there.get(name) != needed.get(name):
            raise BadInput(
                Thing("model", model),
                f"is of another plan: tensor {name} is {_form(there.get(name))} in the model and "
                f"{_form(needed.get(name))} in the plan {plan}",
                "use the plan that the model was downloaded with",
                code=ErrorCode.MODEL_CHANGED,
                values={"tensor": name},
            )


def _form(spec: TensorSpec | None) -> str:
    return "absent" if spec is None else f"{spec.dtype} {list(spec.shape)}"
