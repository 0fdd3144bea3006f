"""A plan's files: which ones belong to it, read once as text, without running any of them.

Paths are relative and written with ``/``. Reading is bounded in number and in bytes, follows no link, and gives exactly
the texts that are shown, hashed and run; they are not read a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from archipel.plans.source import bad_plan, plan_text
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, Record, Thing, Value
from archipel.vocabulary.plans import LONGEST_PLAN_PATH, MOST_PLAN_FILES, PlanPath, check_distinct

LARGEST_PLAN = 1 << 20
"""Bytes of all files of a plan together."""
TRAINED_WITH = "trained-with.json"
"""The file in the folder of a downloaded model's plan that says how the model was trained."""
_path: TypeAdapter[str] = TypeAdapter(PlanPath)


@dataclass(frozen=True)
class PlanFiles:
    """The texts of a plan by their relative paths, and their hashes; of the bytes, as blobs are named."""

    texts: Mapping[str, str]
    hashes: Mapping[str, str]

    @property
    def blobs(self) -> dict[str, bytes]:
        """The files' bytes by their hashes, as they travel."""
        return {self.hashes[path]: text.encode() for path, text in self.texts.items()}


def plan_folder(model: Path) -> Path:
    """Where the plan of a downloaded model file is: a folder beside it.

    >>> plan_folder(Path("models/best.safetensors")).as_posix()
    'models/best-plan'
    """
    return model.with_name(f"{model.stem}-plan")


class TrainedWith(Record):
    """Which class of a plan's files made a model, and the hyper-parameters of the model's last round."""

    entry: str
    class_name: str
    arguments: dict[str, Value]


def trained_with(plan: Path) -> TrainedWith | None:
    """What the folder of a downloaded plan says of its model; None for any other file or folder.

    Raises BadInput for a file that is damaged.
    """
    path = plan / TRAINED_WITH
    if not path.is_file():
        return None
    try:
        return TrainedWith.model_validate_json(path.read_bytes())
    except ValueError as error:
        remedy = "download the model again, or remove this file and give the hyper-parameters (--set, arguments=...)"
        raise BadInput(Thing.file(path), "does not say how the model was trained", remedy) from error


def check_paths(paths: Iterable[str]) -> list[str]:
    """The paths in order, or BadInput (code ``bad-plan``) for a path that leaves the folder, hides or clashes."""
    listed = sorted(paths)
    if not listed:
        raise bad_plan("the plan", "has no files", "name its Python files")
    if len(listed) > MOST_PLAN_FILES:
        raise bad_plan("the plan", f"has {len(listed)} files", f"keep a plan to {MOST_PLAN_FILES} files")
    for path in listed:
        try:
            _path.validate_python(path)
        except ValidationError:
            raise bad_plan(
                repr(path[:LONGEST_PLAN_PATH]),
                "is not a path that a plan's file may have",
                "use a relative path of letters, digits, _ - and /, with the ending .py",
            ) from None
    check_distinct(listed)
    return listed


def read_file(path: Path) -> PlanFiles:
    """A plan of one file. BadInput (``bad-plan``) when it is missing, too large or not what a plan may hold."""
    if not path.is_file():
        raise bad_plan(str(path), "is not a file", "name the plan's Python file, or the folder of its files")
    check_paths([path.name])
    with path.open("rb") as opened:
        return files_of([(path.name, opened.read(LARGEST_PLAN + 1))])


def read_folder(folder: Path) -> PlanFiles:
    """Every ``*.py`` file below a folder, none of them run; BadInput (``bad-plan``) for what a plan may not hold.

    Hidden files and folders (a name that begins with ``.``) and files with other endings are not part of the plan.
    """
    if not folder.is_dir():
        raise bad_plan(str(folder), "is not a folder", "name the folder that holds the plan's files")
    paths: list[str] = []
    for path in folder.rglob("*.py"):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            continue
        paths.append(relative.as_posix())
        if len(paths) > MOST_PLAN_FILES:
            break
    return files_of(_bytes_below(folder, check_paths(paths)))


def files_of(sources: Iterable[tuple[str, bytes]]) -> PlanFiles:
    """A plan's files from their bytes, one after the other.

    Raises BadInput (code ``bad-plan``) as soon as they are too large together, and for what ``plan_text`` refuses.
    """
    texts: dict[str, str] = {}
    hashes: dict[str, str] = {}
    taken = 0
    for path, source in sources:
        taken += len(source)
        if taken > LARGEST_PLAN:
            cause = f"makes the plan larger than {LARGEST_PLAN} bytes"
            raise bad_plan(path, cause, "keep the sum of its files below that, and keep data out of them")
        texts[path] = plan_text(source, path)
        hashes[path] = blob_hash(source)
    check_paths(texts)
    return PlanFiles(texts, hashes)


def _bytes_below(folder: Path, paths: list[str]) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        file = folder
        for part in path.split("/"):
            file = file / part
            if file.is_symlink():
                raise bad_plan(path, "is reached through a link", "copy the file into the plan's folder")
        if not file.is_file():
            raise bad_plan(path, "is not a file", "add it to the plan's folder")
        with file.open("rb") as opened:
            yield path, opened.read(LARGEST_PLAN + 1)
