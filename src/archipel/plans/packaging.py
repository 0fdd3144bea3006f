"""A plan travels as its source files and their hashes, never as a pickle.

Everything here reads a plan without running it, so a server or an agent may call it. ``loading`` runs one; that belongs
in the worker's sandbox or in the researcher's own process.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from archipel.plans.base import TORCH_PLANS, Plan
from archipel.plans.files import PlanFiles, files_of, read_file, read_folder
from archipel.plans.imports import check_named, packages_to_name
from archipel.plans.source import bad_plan, parsed
from archipel.vocabulary import DataNeeds, HyperParameter, MetricSpec, PlanReference, Selection
from archipel.vocabulary.plans import check_entry

USUAL_ENTRY = "plan.py"
_BASES = ("Plan", *TORCH_PLANS)


@dataclass(frozen=True)
class PackagedPlan:
    """A plan's files, which of them is the entry, and which class of it is the plan."""

    files: PlanFiles
    entry: str
    class_name: str

    @property
    def reference(self) -> PlanReference:
        """How a job names this plan."""
        return PlanReference(
            files=dict(self.files.hashes),
            entry=self.entry,
            class_name=self.class_name,
            packages=packages_to_name(self.files.texts),
        )


def package(path: Path, class_name: str | None = None, entry: str | None = None) -> PackagedPlan:
    """Package a plan, reading it without running it: a Python file, or a folder with all the ``*.py`` files below it.

    ``entry`` is the file of a folder that holds the plan class; without it ``plan.py``, else the only file with one.
    Raises BadInput (code ``bad-plan``) for files that are missing, too many, too large, not UTF-8 or not Python, and
    when the entry holds no plan class, or several and ``class_name`` does not choose.
    """
    if path.is_dir():
        files = read_folder(path)
        chosen = entry or _usual_entry(path, files)
    else:
        files = read_file(path)
        chosen = entry or path.name
    return PackagedPlan(files, chosen, explain(files, chosen, class_name))


def declared(reference: PlanReference, sources: Iterable[tuple[str, bytes]]) -> PackagedPlan:
    """The plan that a job names, from the bytes of its files.

    Raises BadInput (code ``bad-plan``) when one of them is missing, is not what its hash names, or has bytes that a
    plan may not have, and when the job names packages that none of them imports.
    """
    files = files_of(sources)
    for path in reference.paths:
        if files.hashes.get(path) != reference.files[path]:
            raise bad_plan(path, "is not the file that its hash names", "fetch the plan again")
    if extra := sorted(files.hashes.keys() - reference.files.keys()):
        raise bad_plan(extra[0], "is not one of the plan's files", "fetch the plan again")
    check_named(reference.packages, files.texts)
    return PackagedPlan(files, reference.entry, reference.class_name)


def explain(files: PlanFiles, entry: str, class_name: str | None = None) -> str:
    """The name of the plan class in the entry, found without running; BadInput (``bad-plan``) when there is none."""
    check_entry(entry, files.texts)
    classes = {path: plan_classes(text, path) for path, text in files.texts.items()}
    return choose_class(entry, classes[entry], class_name)


def _usual_entry(folder: Path, files: PlanFiles) -> str:
    if USUAL_ENTRY in files.texts:
        return USUAL_ENTRY
    holding = [path for path, text in sorted(files.texts.items()) if plan_classes(text, path)]
    if len(holding) != 1:
        found = f"plan classes in {', '.join(holding)}" if holding else "no plan class in any file"
        remedy = f"name the file with the plan class {USUAL_ENTRY}, or give it as the entry"
        raise bad_plan(str(folder), f"has no {USUAL_ENTRY}, and {found}", remedy)
    return holding[0]


def plan_classes(text: str, file_name: str) -> list[str]:
    """Names of the plan classes at the top level of a source, without running it; bases of others are left out."""
    tree = parsed(text, file_name)
    plans: dict[str, set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = {name for name in map(_last_name, node.bases) if name is not None}
            if any(base in _BASES or base in plans for base in bases):
                plans[node.name] = bases
    used = set().union(*plans.values()) if plans else set()
    return [name for name in plans if name not in used]


def _last_name(node: ast.expr) -> str | None:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None


def choose_class(file_name: str, class_names: list[str], class_name: str | None) -> str:
    """The plan class among those found in a file; BadInput (``bad-plan``) when none or several could be."""
    listed = ", ".join(class_names) or "none"
    if class_name is not None:
        if class_name not in class_names:
            raise bad_plan(
                file_name, f"has no plan class {class_name}", f"plan classes in it are: {listed}; derive from TorchPlan"
            )
        return class_name
    if not class_names:
        raise bad_plan(file_name, "has no plan class", f"define a class that derives from {', '.join(_BASES)}")
    if len(class_names) > 1:
        raise bad_plan(file_name, f"has {len(class_names)} plan classes ({listed})", "give the class name of the plan")
    return class_names[0]


def check_declarations(plan: Plan) -> None:
    """Raise BadInput when a declaration is missing, of the wrong type, or contradicts another."""
    thing = type(plan).__name__
    if not isinstance(getattr(plan, "needs", None), DataNeeds):
        raise bad_plan(thing, "does not declare its data needs", 'set needs = DataNeeds(kind="volumes", ...)')
    for attribute, record in (
        ("metrics", MetricSpec),
        ("validation", MetricSpec),
        ("hyper_parameters", HyperParameter),
    ):
        values = getattr(plan, attribute)
        if not isinstance(values, tuple) or not all(isinstance(value, record) for value in values):
            raise bad_plan(
                thing,
                f"{attribute} is not a tuple of {record.__name__}",
                f"write {attribute} = ({record.__name__}(...),)",
            )
        names = [value.name for value in values]
        if len(set(names)) != len(names):
            raise bad_plan(thing, f"{attribute} names one thing twice", "give each its own name")
    if name := next((metric.name for metric in plan.metrics if metric.spread or metric.bins), None):
        cause = f"its metric {name} of training has spread or bins, and the model changes from batch to batch"
        raise bad_plan(thing, cause, "declare it in validation, or leave them out")
    _check_activation(type(plan))
    selection = plan.selection
    if selection is not None and (
        not isinstance(selection, Selection) or selection.metric not in {spec.name for spec in plan.validation}
    ):
        named = f" {selection.metric}" if isinstance(selection, Selection) else ""
        known = ", ".join(spec.name for spec in plan.validation)
        remedy = f"select by a name in validation: {known}" if known else "declare the metric in validation"
        raise bad_plan(thing, f"its selection{named} is not one of its validation metrics", remedy)


def _check_activation(plan: type[Plan]) -> None:
    """Raise BadInput for a TorchPlan that activates in a way of its own and undoes it in the way of its base."""
    bases = plan.__mro__
    activates = next((place for place, base in enumerate(bases) if "activate" in vars(base)), None)
    undoes = next((place for place, base in enumerate(bases) if "undo_activation" in vars(base)), None)
    if activates is not None and undoes is not None and activates < undoes:
        raise bad_plan(
            plan.__name__,
            "defines activate() and no undo_activation(), so the loss of an ensemble would be measured on averages "
            "that are no outputs of a network",
            "define undo_activation(self, averaged): after softmax it returns averaged.clamp_min(1e-30).log(), after "
            "sigmoid averaged.logit(1e-6)",
        )
