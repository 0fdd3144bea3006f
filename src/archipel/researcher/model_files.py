"""A downloaded model: a safetensors file whose bytes are those the server named, with its card beside it."""

from __future__ import annotations

from pathlib import Path

from archipel.storage import disk_errors_named
from archipel.tensors import blob_hash
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, Thing

_SUFFIX = ".safetensors"


def place_for(path: Path, experiment: str, which: str) -> Path:
    """The file for a model: ``path`` itself when it ends in .safetensors, else a file in that folder."""
    if path.suffix == _SUFFIX:
        return path
    if path.suffix == ".md":
        raise BadInput(Thing.file(path), "is not a place for a model", f"give a folder or a name ending in {_SUFFIX}")
    return path / f"{experiment}-{which.replace(':', '-')}{_SUFFIX}"


def write_model(target: Path, data: bytes, *, expected: str, card: str) -> None:
    """Write the model, whole or not at all, and the card (Markdown) under the same name.

    Raises ArchipelError (code trust) when the bytes have another hash than expected, and for a folder that cannot be
    written.
    """
    if blob_hash(data) != expected:
        raise ArchipelError(
            Thing("model", target.name),
            "is damaged: its bytes have another hash",
            "download it again",
            code=ErrorCode.TRUST,
        )
    with disk_errors_named(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.with_suffix(".md").write_text(card, encoding="utf-8")
        part = target.with_name(target.name + ".part")
        part.write_bytes(data)
        part.replace(target)
