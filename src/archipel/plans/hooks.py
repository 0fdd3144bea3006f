"""What a plan must define, found where its author still can: before a job is made, and not in a site's first task."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from archipel.plans.base import TORCH_PLANS, Plan, is_plan_of
from archipel.plans.source import bad_plan
from archipel.vocabulary import OptimiserState

_OURS = {Plan.__module__, *TORCH_PLANS.values()}
_GIVEN = {
    "initial_model": "seed",
    "partition": "name, array",
    "prepare": "training, validation, context",
    "train": "model, context",
    "evaluate": "models, context",
    "predict": "models, subjects, context",
    "state": "",
    "restore": "state",
    "build_model": "",
    "build_optimiser": "network, context",
    "loss": "outputs, targets",
    "examples": "subjects",
    "transforms": "",
    "order": "generator",
    "before_step": "network, context",
    "augment": "inputs, targets, generator",
    "measure": "outputs, targets",
    "activate": "outputs",
    "undo_activation": "averaged",
    "predictions": "outputs",
}
"""The hooks, each with what it is called with."""
_IS_FOR = {
    "initial_model": "which makes the model of round 0",
    "prepare": "which reads what training needs",
    "train": "which trains for one round",
    "evaluate": "which measures them",
    "measure": "which measures them in a batch",
    "state": "which gives what the next round continues from",
    "restore": "which continues from it",
    "build_model": "which returns the network",
    "build_optimiser": "which returns the optimiser of a round",
    "loss": "the mean loss of a batch",
}


def check_hooks(plan: Plan) -> None:
    """Raise BadInput (code ``bad-plan``) for a plan that lacks a hook which its tasks need, for a hook that is not a
    method, and for one that cannot be called as the runtime calls it.
    """
    thing = f"plan {type(plan).__name__}"
    for name, why in _needed(plan):
        if not _defines(plan, name):
            remedy = f"define {name}(self{_with_comma(name)}), {_IS_FOR[name]}"
            raise bad_plan(thing, f"{why}does not define {name}", remedy)
    if is_plan_of(plan, "SegmentationPlan") and not hasattr(plan, "shape"):
        remedy = "set shape = (40, 56, 40), for example: the voxels to which each training volume is cut or padded"
        raise bad_plan(thing, "does not declare its shape", remedy)
    for name, given in _GIVEN.items():
        if hasattr(plan, name) and _defines(plan, name):
            _check_call(plan, thing, name, len(given.split(", ")) if given else 0)


def _needed(plan: Plan) -> Iterator[tuple[str, str]]:
    """The hooks that this plan must define, each with why where that is not plain."""
    if is_plan_of(plan, "TorchPlan"):
        if not _defines(plan, "initial_model"):
            yield "build_model", ""
        if not _defines(plan, "train"):
            yield "build_optimiser", ""
            yield "loss", ""
    else:
        yield from ((name, "") for name in ("initial_model", "prepare", "train"))
        if plan.optimiser_state is OptimiserState.CONTINUE_LOCAL:
            yield from ((name, "continues from its own state and ") for name in ("state", "restore"))
    if (name := _measures(plan)) is not None:
        metrics = ", ".join(metric.name for metric in plan.validation)
        yield name, f"declares the validation metrics {metrics} and "


def _measures(plan: Plan) -> str | None:
    """The hook without which the plan's validation metrics would not be measured, where one is needed."""
    if not plan.validation or _defines(plan, "evaluate") or is_plan_of(plan, "SegmentationPlan"):
        return None
    if not is_plan_of(plan, "TorchPlan"):
        return "evaluate"
    return None if {metric.name for metric in plan.validation} == {"validation_loss"} else "measure"


def _defines(plan: Plan, name: str) -> bool:
    """Whether the plan or a base of its author's defines it; what an instance has of its own counts too."""
    owner = next((kind for kind in type(plan).__mro__ if name in vars(kind)), None)
    return name in vars(plan) or (owner is not None and owner.__module__ not in _OURS)


def _check_call(plan: Plan, thing: str, name: str, given: int) -> None:
    hook = getattr(plan, name)
    if not callable(hook):
        remedy = f"define {name}(self{_with_comma(name)})"
        raise bad_plan(thing, f"its {name} is {type(hook).__name__}, not a method", remedy)
    try:
        signature = inspect.signature(hook)
    except ValueError:
        # Code in another language than Python may not say what it takes.
        return
    try:
        signature.bind(*[None] * given)
    except TypeError:
        taken = f"takes {signature}" if signature.parameters else "takes no argument but self"
        remedy = f"define {name}(self{_with_comma(name)})"
        raise bad_plan(thing, f"its {name} {taken} and is called with ({_GIVEN[name]})", remedy) from None


def _with_comma(name: str) -> str:
    return f", {_GIVEN[name]}" if _GIVEN[name] else ""
