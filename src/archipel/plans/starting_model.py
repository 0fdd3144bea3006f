"""The model that a job starts from when its plan does not make it: its bytes, where it came from, whether it fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archipel.plans.base import Model
from archipel.tensors import blob_hash, decode, schema_of
from archipel.vocabulary import BadInput, Lineage, ModelFile, TensorSchema, TensorSpec, Thing
from archipel.vocabulary.visible import quote_name

_MOST_NAMED = 3


@dataclass(frozen=True)
class StartingModel:
    """A model to start from. ``thing`` is what errors call it, ``data`` a safetensors file's bytes.

    ``trained`` is the hash of the part of it that was trained and sent, for a model of another experiment.
    """

    thing: Thing
    data: bytes
    lineage: Lineage
    trained: str | None = None

    def fitted(self, plan: TensorSchema) -> Model:
        """The model's tensors, which are those of the plan's schema, whatever their order in the file is.

        Raises BadInput when the bytes are not a model, when its tensors are not those of the plan's model (it names
        them, and what each is here and there), and when a value is not finite.
        """
        try:
            arrays = decode(self.data)
        except BadInput as error:
            raise BadInput(
                self.thing,
                "is damaged or not a model: it cannot be read as a safetensors file",
                "give a .safetensors file that was downloaded from an experiment",
            ) from error
        self._check_tensors(schema_of(arrays), plan)
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                cause = f"has values in tensor {quote_name(name)} that are not finite"
                raise BadInput(self.thing, cause, "start from a model of an earlier round")
        return arrays

    def check_part(self, sent: str) -> None:
        """Raise BadInput unless the part that the new plan sends, with this hash, is the part that was trained before:
        then sites can prove where it came from.
        """
        if self.trained is not None and sent != self.trained:
            cause = "was trained with other tensors frozen or local than those of the plan"
            remedy = "download it and start from the file, or let partition() divide the model as it did then"
            raise BadInput(self.thing, cause, remedy)

    def _check_tensors(self, found: TensorSchema, plan: TensorSchema) -> None:
        mine, asked = _by_name(found), _by_name(plan)
        unlike = [
            f"tensor {quote_name(name)} is {_of(mine.get(name))}, in the plan's model {_of(asked.get(name))}"
            for name in sorted(mine.keys() | asked.keys())
            if mine.get(name) != asked.get(name)
        ]
        if unlike:
            more = len(unlike) - _MOST_NAMED
            named = "; ".join(unlike[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
            raise BadInput(
                self.thing,
                f"does not fit the plan: {named}",
                "use the plan that made this model, or a model that this plan made",
                values={"tensors": len(unlike)},
            )


def read_starting_model(path: Path) -> StartingModel:
    """The model in a file. Raises BadInput for a file that is missing or cannot be read."""
    thing = Thing.file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        cause = f"cannot be read ({error.strerror or error})"
        raise BadInput(thing, cause, "give a .safetensors file, or NAME, NAME:last or NAME:best") from error
    return StartingModel(thing, data, ModelFile(file=blob_hash(data)))


def _by_name(schema: TensorSchema) -> Mapping[str, TensorSpec]:
    return {spec.name: spec for spec in schema.tensors}


def _of(spec: TensorSpec | None) -> str:
    return f"{spec.dtype} {list(spec.shape)}" if spec is not None else "missing"
