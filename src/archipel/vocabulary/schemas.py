"""The tensor schema: names, types and shapes of a model's parameters, the same at every site for a whole job."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from archipel.vocabulary.bounds import EXACT, MOST_DIMENSIONS, MOST_TENSORS
from archipel.vocabulary.records import Many, Record

DType = Literal["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]

ITEM_SIZE: dict[str, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}


class TensorSpec(Record):
    """One parameter or buffer: its name, type and shape."""

    name: Annotated[str, Field(min_length=1, max_length=512)]
    dtype: DType
    shape: Annotated[Many[Annotated[int, Field(ge=0, lt=EXACT)]], Field(max_length=MOST_DIMENSIONS)]

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.elements * ITEM_SIZE[self.dtype]


class TensorSchema(Record):
    """All parameters of a model in file order: wider types first, then by name, so that every leaf is aligned."""

    tensors: Annotated[Many[TensorSpec], Field(max_length=MOST_TENSORS)]

    @model_validator(mode="after")
    def _ordered_and_unique(self) -> Self:
        keys = [(-ITEM_SIZE[spec.dtype], spec.name) for spec in self.tensors]
        if keys != sorted(keys) or len({spec.name for spec in self.tensors}) != len(self.tensors):
            raise ValueError("tensors must be unique and ordered by decreasing item size, then name")
        if self.nbytes >= EXACT:
            raise ValueError("the tensors have 2**53 bytes or more")
        return self

    @classmethod
    def of(cls, specs: list[TensorSpec] | tuple[TensorSpec, ...]) -> TensorSchema:
        """The schema of these tensors, in tensor file order."""
        return cls(tensors=tuple(sorted(specs, key=lambda spec: (-ITEM_SIZE[spec.dtype], spec.name))))

    @property
    def elements(self) -> int:
        """How many numbers all of them hold."""
        return sum(spec.elements for spec in self.tensors)

    @property
    def nbytes(self) -> int:
        """Size of all values in bytes, without any header."""
        return sum(spec.nbytes for spec in self.tensors)
