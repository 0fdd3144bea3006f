"""A downloaded model: a safetensors file whose bytes are those the server named, its card and its plan beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from archipel.plans.files import TRAINED_WITH, PlanFiles, TrainedWith, plan_folder
from archipel.storage import disk_errors_named
from archipel.tensors import blob_hash
from archipel.transport.rest import ModelView, RoundView
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, Job, Thing

_SUFFIX = ".safetensors"


def place_for(path: Path, experiment: str, which: str) -> Path:
    """The file for a model: ``path`` itself when it ends in .safetensors, else a file in that folder."""
    if path.suffix == _SUFFIX:
        return path
    if path.suffix == ".md":
        raise BadInput(Thing.file(path), "is not a place for a model", f"give a folder or a name ending in {_SUFFIX}")
    return path / f"{experiment}-{which.replace(':', '-')}{_SUFFIX}"


def check_bytes(thing: Thing, data: bytes, expected: str) -> None:
    """Raise ArchipelError (code trust) when the bytes of a model, or of a part, have another hash than expected."""
    if blob_hash(data) != expected:
        raise ArchipelError(
            thing,
            "is damaged: its bytes have another hash",
            "download it again",
            code=ErrorCode.TRUST,
        )


def trained_with(job: Job, model: ModelView, rounds: Sequence[RoundView]) -> TrainedWith:
    """How a kept model was trained; with the hyper-parameters of the last round that made it."""
    made = [attempt for attempt in rounds if attempt.is_committed and attempt.round <= model.round]
    last = made[-1].arguments if made else {}
    return TrainedWith(entry=job.plan.entry, class_name=job.plan.class_name, arguments={**job.arguments, **last})


def write_model(target: Path, data: bytes, *, card: str, plan: PlanFiles, trained: TrainedWith) -> None:
    """Write the model, whole or not at all, the card (Markdown) under the same name, and the plan's files with what
    ``archipel predict`` needs to know of the training.

    Raises ArchipelError for a folder that cannot be written, and BadInput when the plan's folder holds other Python
    files, which would join the plan.
    """
    folder = plan_folder(target)
    _check_no_others(folder, plan)
    with disk_errors_named(target.parent):
        for path, text in plan.texts.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode())
        (folder / TRAINED_WITH).write_text(trained.model_dump_json(indent=2) + "\n", encoding="utf-8")
        target.with_suffix(".md").write_text(card, encoding="utf-8")
        part = target.with_name(target.name + ".part")
        part.write_bytes(data)
        part.replace(target)


def _check_no_others(folder: Path, plan: PlanFiles) -> None:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")} if folder.is_dir() else set()
    if others := sorted(found - plan.texts.keys()):
        cause = f"holds {others[0]}, which is not a file of this plan"
        raise BadInput(Thing.folder(folder), cause, "give another place for the model, or move that folder away")
