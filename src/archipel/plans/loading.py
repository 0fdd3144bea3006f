"""Running a plan: its modules come from texts in memory, never from a disk.

Each plan is a package of its own, named by the hash of its files, and its files import each other relatively
(``from .losses import dice``). So a file named like an installed module hides nothing, and a plan does not see
the modules of another one.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType

from pydantic import ValidationError

from archipel.plans.base import Plan
from archipel.plans.files import PlanFiles
from archipel.plans.hooks import check_hooks
from archipel.plans.packaging import PackagedPlan, check_declarations, explain, package
from archipel.plans.source import bad_plan
from archipel.tensors import blob_hash
from archipel.vocabulary import ArchipelError
from archipel.vocabulary.packages import pip_install
from archipel.vocabulary.wrong_values import BadTerms, wrong_value

_LOADING = threading.RLock()
_MOST_CAUSES = 20


@dataclass(frozen=True)
class PlanLine:
    """A line of one of a plan's files, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class RaisedInAnotherProcess(Exception):
    """The cause of an error that another process raised: its traceback as text, and the line of the plan in it."""

    def __init__(self, text: str, line: PlanLine | None) -> None:
        super().__init__(text, line)
        self.text, self.line = text, line

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def load(path: Path, class_name: str | None = None, entry: str | None = None) -> Plan:
    """Run the plan of a file or folder and make its plan. Raises as ``package`` and ``load_packaged`` do."""
    return load_packaged(package(path, class_name, entry))


def load_packaged(packaged: PackagedPlan) -> Plan:
    """Run a plan's entry and make its plan.

    Raises BadInput when the entry does not hold the class, and when what the class declares is not of the right type.
    Errors that the files raise while they run pass through.
    """
    files, entry = packaged.files, packaged.entry
    chosen = explain(files, entry, packaged.class_name)
    name = package_name(files)
    with _LOADING:
        _forget(name)
        sys.meta_path.insert(0, _PlanFinder(name, files))
        try:
            module = importlib.import_module(f"{name}.{_module(entry)}")
        except BaseException:
            _forget(name)
            raise
    made = getattr(module, chosen, None)
    if not (isinstance(made, type) and issubclass(made, Plan)):
        raise bad_plan(entry, f"{chosen} is not an archipel Plan", "derive it from archipel.plans.Plan or TorchPlan")
    plan = made()
    check_declarations(plan)
    return plan


def load_own(packaged: PackagedPlan) -> Plan:
    """``load_packaged`` in the process of the plan's author: what its files raise while they run is one BadInput."""
    with plan_errors_named(packaged):
        return load_packaged(packaged)


def load_to_train(packaged: PackagedPlan) -> Plan:
    """``load_own`` for a plan that sites are to train. Raises BadInput for a hook that it lacks, too."""
    plan = load_own(packaged)
    check_hooks(plan)
    return plan


@contextmanager
def plan_errors_named(packaged: PackagedPlan) -> Iterator[None]:
    """Turn what a plan's own code raises into a BadInput with its line; the error itself is the cause of that."""
    try:
        yield
    except BadTerms as error:
        place = plan_line_of(error, packaged.files)
        if place is None:
            raise
        raise bad_plan(f"{place}: {error.thing}", error.cause, error.remedy) from error
    except ArchipelError:
        raise
    except Exception as error:
        place = plan_line_of(error, packaged.files)
        thing = packaged.entry if place is None else str(place)
        if isinstance(error, ValidationError):
            wrong = wrong_value(error)
            raise bad_plan(f"{thing}: {error.title}, {wrong.place}", wrong.cause, wrong.remedy) from None
        cause = _said(error).replace(f"{package_name(packaged.files)}.", "")
        raise bad_plan(thing, cause, _remedy(error, packaged.files)) from error


@contextmanager
def own_line_named(packaged: PackagedPlan) -> Iterator[None]:
    """``plan_errors_named`` for errors that passed through a line of the plan; others keep their trace."""
    try:
        yield
    except Exception as error:
        if plan_line_of(error, packaged.files) is None:
            raise
        with plan_errors_named(packaged):
            raise


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _remedy(error: Exception, files: PlanFiles) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        package, _, own = error.name.partition(".")
        if package == package_name(files):
            return f"add {own.replace('.', '/')}.py to the plan's folder, and give that folder"
        if any(_module(path).split(".")[0] == package for path in files.texts):
            return f"import a file of the plan with a dot: from .{error.name} import ..."
        if package != "archipel":
            return f"correct the name, or install the package here: {pip_install([package])}"
    return "fix the plan"


def package_name(files: PlanFiles) -> str:
    """The name of the package that a plan's modules are in; the same files have the same name."""
    listed = json.dumps(dict(files.hashes), sort_keys=True).encode()
    return f"archipel_plan_{blob_hash(listed).partition(':')[2][:32]}"


def plan_line_of(error: BaseException | None, files: PlanFiles) -> PlanLine | None:
    """The innermost line of the plan that an error, or one of its causes, passed through, or of its syntax error.

    The file is one of the plan's own paths and the line one that it has, whatever names the plan's code gave to its
    stack frames.
    """
    names = {_file_name(package_name(files), path): path for path in files.texts}
    for _ in range(_MOST_CAUSES):
        if error is None:
            return None
        places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
        if isinstance(error, RaisedInAnotherProcess) and error.line is not None:
            places.append((_file_name(package_name(files), error.line.file), error.line.line))
        if isinstance(error, SyntaxError):
            places.append((error.filename or "", error.lineno or 0))
        for name, line in reversed(places):
            path = names.get(name)
            if path is not None and 1 <= line <= files.texts[path].count("\n") + 1:
                return PlanLine(path, line)
        error = error.__cause__
    return None


def _forget(package: str) -> None:
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if not (isinstance(finder, _PlanFinder) and finder.package == package)
    ]
    inside = f"{package}."
    for name in [name for name in sys.modules if name == package or name.startswith(inside)]:
        del sys.modules[name]


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def _file_name(package: str, path: str) -> str:
    # In angle brackets, as Python writes what is not a file: tools then ask the loader for the source, not the disk.
    return f"<{package}>/{path}"


class _PlanFinder(MetaPathFinder):
    """Finds the modules of one plan and no other module."""

    def __init__(self, package: str, files: PlanFiles) -> None:
        self.package = package
        self._paths: dict[str, str | None] = {package: None}
        for path in files.texts:
            parts = _module(path).split(".")
            for depth in range(1, len(parts)):
                self._paths.setdefault(".".join([package, *parts[:depth]]), None)
        for path in files.texts:
            name = f"{package}.{_module(path)}"
            self._paths[name.removesuffix(".__init__")] = path
        self._texts = files.texts

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._paths:
            return None
        file = self._paths[fullname]
        is_package = file is None or file == "__init__.py" or file.endswith("/__init__.py")
        name = None if file is None else _file_name(self.package, file)
        text = "" if file is None else self._texts[file]
        # Without a place on the disk, Python's own finders search nowhere for a module that this plan does not have.
        return ModuleSpec(fullname, _TextLoader(text, name), origin=name, is_package=is_package)


class _TextLoader(InspectLoader):
    def __init__(self, text: str, file_name: str | None) -> None:
        self._text = text
        self._file_name = file_name

    def get_source(self, fullname: str) -> str:
        return self._text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self._file_name or f"<{fullname}>", "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        if self._file_name is not None:
            module.__file__ = self._file_name
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102
