"""Which plan a job runs: its files by relative path and hash, the one of them that holds the class, and its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from archipel.vocabulary.bounds import MOST_PACKAGES
from archipel.vocabulary.errors import BadInput, ErrorCode
from archipel.vocabulary.names import Hash, Name
from archipel.vocabulary.packages import PackageName
from archipel.vocabulary.records import Many, Record

MOST_PLAN_FILES = 64
LONGEST_PLAN_PATH = 200

PlanPath = Annotated[
    str, StringConstraints(pattern=r"^(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+\.py$", max_length=LONGEST_PLAN_PATH)
]
"""A file of a plan: relative, written with ``/``, and no part of it hides or leads out of the plan's folder."""


class PlanReference(Record):
    """A plan as a job names it: Python files by path and hash. ``entry`` is the file that holds the plan class.

    ``packages`` are those that its files import, in order, beside Python's own and archipel: a site says which of them
    it has. A job of an earlier version names none.
    """

    kind: Literal["python"] = "python"
    files: Annotated[dict[PlanPath, Hash], Field(min_length=1, max_length=MOST_PLAN_FILES)]
    entry: PlanPath
    class_name: Name
    packages: Annotated[Many[PackageName], Field(max_length=MOST_PACKAGES)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        try:
            check_distinct(self.files)
            check_entry(self.entry, self.files)
        except BadInput as error:
            raise ValueError(str(error)) from error
        if list(self.packages) != sorted(set(self.packages)):
            raise ValueError("the packages of a plan must be in order, and none twice")
        return self

    @property
    def hash(self) -> str:
        """One hash for the whole plan: that of its file, and of several files that of their list."""
        if len(self.files) == 1:
            return next(iter(self.files.values()))
        listed = json.dumps(self.files, sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(listed.encode()).hexdigest()}"

    @property
    def paths(self) -> tuple[str, ...]:
        """The files in the order in which people read them: the entry, then the others by name."""
        return (self.entry, *sorted(self.files.keys() - {self.entry}))


def check_distinct(paths: Iterable[str]) -> None:
    """Raise BadInput (code ``bad-plan``) when two of the paths would be one module, or a module and a folder."""
    listed = sorted(paths)
    modules = [path.removesuffix(".py").lower() for path in listed]
    folders: dict[str, str] = {}
    """How each folder is written, by its name in lower case: some disks do not tell the two apart."""
    for path in listed:
        above = [path.rsplit("/", depth)[0] for depth in range(1, path.count("/") + 1)]
        if any(folders.setdefault(folder.lower(), folder) != folder for folder in above):
            raise _clash(path)
    for path, module in zip(listed, modules, strict=True):
        if modules.count(module) > 1 or module in folders:
            raise _clash(path)


def _clash(path: str) -> BadInput:
    cause, remedy = "has the name of another file or folder of the plan", "rename one of the two"
    return BadInput(path, cause, remedy, code=ErrorCode.BAD_PLAN)


def check_entry(entry: str, paths: Iterable[str]) -> None:
    """Raise BadInput (code ``bad-plan``) unless the entry is one of the files and can hold the plan class."""
    if entry.endswith("__init__.py"):
        raise BadInput(
            entry, "cannot be the entry of a plan", "put the plan class into a file with another name",
            code=ErrorCode.BAD_PLAN,
        )  # fmt: skip
    listed = sorted(paths)
    if entry not in listed:
        cause = "is not one of the plan's files"
        raise BadInput(entry, cause, f"name one of: {', '.join(listed)}", code=ErrorCode.BAD_PLAN)
