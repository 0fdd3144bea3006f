"""A plan's files: which ones belong to it, read once as text, without running any of them.

Paths are relative and written with ``/``. Reading is bounded in number and in bytes, follows no link, and gives the
very texts that are shown, hashed and run; nothing reads them a second time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from archipel.plans.source import bad_plan, plan_text
from archipel.tensors import blob_hash

MOST_FILES = 64
LARGEST_FILES = 1 << 20
_LONGEST_PATH = 200
_PATH = re.compile(r"(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+\.py")


@dataclass(frozen=True)
class PlanFiles:
    """The texts of a plan by their relative paths, and their hashes; of the bytes, as blobs are named."""

    texts: Mapping[str, str]
    hashes: Mapping[str, str]


def check_paths(paths: Iterable[str]) -> list[str]:
    """The paths in order, or BadInput (code ``bad-plan``) for a path that leaves the folder, hides or clashes."""
    listed = sorted(paths)
    if not listed:
        raise bad_plan("the plan", "has no files", "name its Python files")
    if len(listed) > MOST_FILES:
        raise bad_plan("the plan", f"has {len(listed)} files", f"keep a plan to {MOST_FILES} files")
    for path in listed:
        if len(path) > _LONGEST_PATH or not _PATH.fullmatch(path):
            raise bad_plan(
                repr(path[:_LONGEST_PATH]),
                "is not a path that a plan's file may have",
                "use a relative path of letters, digits, _ - and /, with the ending .py",
            )
    modules = [path.removesuffix(".py").lower() for path in listed]
    folders = {module.rsplit("/", depth)[0] for module in modules for depth in range(1, module.count("/") + 1)}
    for path, module in zip(listed, modules, strict=True):
        if modules.count(module) > 1 or module in folders:
            raise bad_plan(path, "has the name of another file or folder of the plan", "rename one of the two")
    return listed


def read_folder(folder: Path) -> PlanFiles:
    """Every ``*.py`` file below a folder, none of them run; BadInput (``bad-plan``) for what a plan may not hold.

    Hidden files and folders (a name that begins with ``.``) and files with other endings are no part of the plan.
    """
    if not folder.is_dir():
        raise bad_plan(str(folder), "is not a folder", "name the folder that holds the plan's files")
    paths: list[str] = []
    for path in folder.rglob("*.py"):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            continue
        paths.append(relative.as_posix())
        if len(paths) > MOST_FILES:
            break
    return _read(folder, check_paths(paths))


def read_declared(folder: Path, hashes: Mapping[str, str]) -> PlanFiles:
    """Exactly the files that ``hashes`` declares; BadInput (code ``bad-plan``) when one of them has another hash."""
    files = _read(folder, check_paths(hashes))
    for path, declared in hashes.items():
        if files.hashes[path] != declared:
            raise bad_plan(path, "is not the file that its hash names", "fetch the plan again")
    return files


def _read(folder: Path, paths: list[str]) -> PlanFiles:
    texts: dict[str, str] = {}
    hashes: dict[str, str] = {}
    left = LARGEST_FILES
    for path in paths:
        source = _bytes(folder, path, left)
        left -= len(source)
        texts[path] = plan_text(source, path)
        hashes[path] = blob_hash(source)
    return PlanFiles(texts, hashes)


def _bytes(folder: Path, path: str, left: int) -> bytes:
    file = folder
    for part in path.split("/"):
        file = file / part
        if file.is_symlink():
            raise bad_plan(path, "is reached through a link", "copy the file into the plan's folder")
    if not file.is_file():
        raise bad_plan(path, "is not a file", "add it to the plan's folder")
    with file.open("rb") as opened:
        source = opened.read(left + 1)
    if len(source) > left:
        raise bad_plan(path, f"takes the plan above {LARGEST_FILES} bytes", "keep all files of a plan below that")
    return source
