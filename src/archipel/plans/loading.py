"""Running a plan of several files: its own modules come from texts in memory, never from a disk.

Each plan is a package of its own, named by the hash of its files, and its files import each other relatively
(``from .losses import dice``). So a file named like an installed module shadows nothing, and no plan sees the modules
of another.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

from archipel.plans.base import Plan
from archipel.plans.files import PlanFiles
from archipel.plans.packaging import check_declarations, choose_class, plan_classes
from archipel.plans.source import bad_plan
from archipel.tensors import blob_hash

_LOADING = threading.RLock()
_MOST_CAUSES = 20


@dataclass(frozen=True)
class PlanLine:
    """A line of one of a plan's files, counted from 1."""

    file: str
    line: int


def explain_files(files: PlanFiles, entry: str, class_name: str | None = None) -> str:
    """The name of the plan class in the entry, found without running; BadInput (``bad-plan``) when there is none."""
    if entry.endswith("__init__.py"):
        raise bad_plan(entry, "cannot be the entry of a plan", "put the plan class into a file with another name")
    if entry not in files.texts:
        raise bad_plan(entry, "is not one of the plan's files", f"name one of: {', '.join(sorted(files.texts))}")
    classes = {path: plan_classes(text, path) for path, text in files.texts.items()}
    return choose_class(entry, classes[entry], class_name)


def load_files(files: PlanFiles, entry: str, class_name: str | None = None) -> Plan:
    """Run a plan's entry and make its plan.

    Raises BadInput as ``explain_files`` does, and when what the class declares is not of the right type. Whatever the
    files themselves raise while they run passes through.
    """
    chosen = explain_files(files, entry, class_name)
    package = package_name(files)
    with _LOADING:
        _forget(package)
        sys.meta_path.insert(0, _PlanFinder(package, files))
        try:
            module = importlib.import_module(f"{package}.{_module(entry)}")
        except BaseException:
            _forget(package)
            raise
    made = getattr(module, chosen, None)
    if not (isinstance(made, type) and issubclass(made, Plan)):
        raise bad_plan(entry, f"{chosen} is not an archipel Plan", "derive it from archipel.plans.Plan or TorchPlan")
    plan = made()
    check_declarations(plan)
    return plan


def package_name(files: PlanFiles) -> str:
    """The name of the package that a plan's modules are in; the same files have the same name."""
    listed = json.dumps(dict(files.hashes), sort_keys=True).encode()
    return f"archipel_plan_{blob_hash(listed).partition(':')[2][:32]}"


def plan_line_of(error: BaseException | None, files: PlanFiles) -> PlanLine | None:
    """The innermost line of the plan that an error, or one of its causes, passed through, or of its syntax error.

    The file is one of the plan's own paths and the line one that it has, whatever the plan's code named its frames.
    """
    names = {_file_name(package_name(files), path): path for path in files.texts}
    for _ in range(_MOST_CAUSES):
        if error is None:
            return None
        places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
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
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def _file_name(package: str, path: str) -> str:
    # In angle brackets, as Python writes what is not a file: tools then ask the loader for the source, not the disk.
    return f"<{package}>/{path}"


class _PlanFinder(MetaPathFinder):
    """Finds the modules of one plan, and answers for no other name."""

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
        # Without a place on the disk, Python's own finders look nowhere for what this plan does not hold.
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
