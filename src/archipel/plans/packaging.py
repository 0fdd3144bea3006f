"""A plan travels as its source file and that file's hash, never as a pickle.

``package`` reads the file without running it, so a server or an agent may call it; ``load`` runs it and belongs in
the worker's sandbox or in the researcher's own process.
"""

from __future__ import annotations

import ast
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from archipel.plans.base import TORCH_PLANS, Plan
from archipel.plans.source import bad_plan, plan_text
from archipel.tensors import blob_hash
from archipel.vocabulary import (
    ArchipelError,
    DataNeeds,
    HyperParameter,
    MetricSpec,
    PlanReference,
    Selection,
)

LARGEST_SOURCE = 1 << 20
_FILE_NAME = re.compile(r"^[A-Za-z0-9_.-]{1,97}\.py$")
_BASES = ("Plan", *TORCH_PLANS)


@dataclass(frozen=True)
class PackagedPlan:
    """A plan's source bytes, the text they are, their hash, and which class of which file it is."""

    source: bytes
    text: str
    hash: str
    class_name: str
    file_name: str

    @property
    def reference(self) -> PlanReference:
        """How a job names this plan."""
        return PlanReference(hash=self.hash, class_name=self.class_name, file_name=self.file_name)


def package(path: Path, class_name: str | None = None) -> PackagedPlan:
    """Package a plan file, reading it without running it.

    Raises BadInput (code ``bad-plan``) for a file that is missing, too large, not UTF-8 or not Python, and when it
    holds no plan class, or several and ``class_name`` does not choose.
    """
    if not _FILE_NAME.match(path.name):
        raise bad_plan(path.name, "is not a name a plan may have", "use letters, digits, _ . - and the ending .py")
    return _read(path, class_name)


def _read(path: Path, class_name: str | None) -> PackagedPlan:
    if not path.is_file():
        raise bad_plan(str(path), "is not a file", "name the Python file that holds the plan")
    source = path.read_bytes()
    if len(source) > LARGEST_SOURCE:
        raise bad_plan(path.name, f"has {len(source)} bytes", f"keep a plan below {LARGEST_SOURCE} bytes")
    text = plan_text(source, path.name)
    found = plan_classes(text, path.name)
    return PackagedPlan(source, text, blob_hash(source), choose_class(path.name, found, class_name), path.name)


def plan_classes(text: str, file_name: str) -> list[str]:
    """Names of the plan classes at the top level of a source, without running it; bases of others are left out."""
    try:
        tree = ast.parse(text, filename=file_name)
    except SyntaxError as error:
        raise bad_plan(
            file_name, f"has a syntax error in line {error.lineno}: {error.msg}", "fix it and package it again"
        ) from error
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


def choose_class(file_name: str, found: list[str], class_name: str | None) -> str:
    """The class that is meant of those found in a file; BadInput (``bad-plan``) when none or several could be."""
    listed = ", ".join(found) or "none"
    if class_name is not None:
        if class_name not in found:
            raise bad_plan(
                file_name, f"has no plan class {class_name}", f"plan classes in it are: {listed}; derive from TorchPlan"
            )
        return class_name
    if not found:
        raise bad_plan(file_name, "has no plan class", f"define a class that derives from {', '.join(_BASES)}")
    if len(found) > 1:
        raise bad_plan(
            file_name, f"has {len(found)} plan classes ({listed})", "say which one is meant by its class name"
        )
    return found[0]


def load(path: Path, class_name: str | None = None) -> Plan:
    """Run a plan file as a module and make its plan; the file may have any name, as a blob has.

    Raises BadInput as ``package`` does, and when what the class declares is not of the right type. Whatever the
    file itself raises while it runs passes through.
    """
    packaged = _read(path, class_name)
    name = f"archipel_plan_{packaged.hash.partition(':')[2][:16]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    # Compiled from the very text that people are shown; an import would read the file again, obey a coding line and
    # leave a cache beside the file.
    exec(compile(packaged.text, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    made = getattr(module, packaged.class_name, None)
    if not (isinstance(made, type) and issubclass(made, Plan)):
        raise bad_plan(
            path.name,
            f"{packaged.class_name} is not an archipel Plan",
            "derive it from archipel.plans.Plan or TorchPlan",
        )
    plan = made()
    check_declarations(plan)
    return plan


def load_own(path: Path, class_name: str | None = None) -> Plan:
    """``load`` in the process of the plan's author: also what the file raises while it runs is one BadInput."""
    with plan_errors_named(path):
        return load(path, class_name)


@contextmanager
def plan_errors_named(path: Path) -> Iterator[None]:
    """Turn what a plan's own code raises into a BadInput with its line; the error itself is the cause of that."""
    try:
        yield
    except ArchipelError:
        raise
    except Exception as error:
        line = line_of(error, str(path))
        where = "" if line is None else f" (line {line})"
        raise bad_plan(path.name, f"{_said(error)}{where}", "fix the plan") from error


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        return f"{error.title}{f', {field}' if field else ''}: {first['msg'].removeprefix('Value error, ')}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def line_of(error: BaseException | None, plan_file: str) -> int | None:
    """The innermost line of the plan that an error or one of its causes passed through, or of its syntax error."""
    for _ in range(20):
        if error is None:
            return None
        if isinstance(error, SyntaxError) and error.filename == plan_file:
            return error.lineno
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == plan_file]
        if lines:
            return lines[-1]
        error = error.__cause__
    return None


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
    selection = plan.selection
    if selection is not None and (
        not isinstance(selection, Selection) or selection.metric not in {spec.name for spec in plan.validation}
    ):
        raise bad_plan(thing, "its selection is not one of its validation metrics", "select by a name in validation")
