"""The parts of a model: what is trained and sent, what is frozen, and what is trained and stays local to each site."""

from __future__ import annotations

from enum import StrEnum

from archipel.vocabulary.names import Hash
from archipel.vocabulary.records import Record
from archipel.vocabulary.schemas import TensorSchema


class Part(StrEnum):
    """To which part of the model a tensor belongs.

    >>> Part("frozen") is Part.FROZEN
    True
    """

    SENT = "sent"
    """Trained at the sites, sent by each after every round, and aggregated."""
    FROZEN = "frozen"
    """Made by the researcher, fetched by each site, changed by no round and sent by no site."""
    LOCAL = "local"
    """Trained at each site and kept there: every site has values of its own, and none sends them."""


class FrozenPart(Record):
    """The frozen tensors of a job's model: their names, types and shapes, and the tensor file with their values."""

    tensors: TensorSchema
    blob: Hash


class LocalPart(Record):
    """The local tensors of a job's model: their names, types and shapes, and the tensor file with the values that every
    site starts from.
    """

    tensors: TensorSchema
    blob: Hash
