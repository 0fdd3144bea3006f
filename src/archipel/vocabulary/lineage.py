"""Lineage: where the model that a job starts from came from, as the job says it and so as the sites approve it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from archipel.vocabulary.bounds import MOST_ROUNDS
from archipel.vocabulary.names import ExperimentId, Hash
from archipel.vocabulary.records import Record


class ParentChoice(StrEnum):
    """Which model of an experiment another one continues."""

    LAST = "last"
    BEST = "best"


class ModelFile(Record):
    """A file of the researcher: of where its model came from nothing is known but the hash of its bytes.

    >>> print(ModelFile(file="blake3:" + "0" * 64))
    a file of the researcher
    """

    file: Hash

    def __str__(self) -> str:
        return "a file of the researcher"


class ParentModel(Record):
    """A model of another experiment, of the job with this hash: the one after ``round`` (0: the one it started from).

    >>> parent = ParentModel(experiment="heart-1", job_hash="sha256:" + "0" * 64, model="best", round=7)
    >>> print(parent)
    heart-1, best, after round 7
    """

    experiment: ExperimentId
    job_hash: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    model: ParentChoice
    round: Annotated[int, Field(ge=0, le=MOST_ROUNDS)]

    def __str__(self) -> str:
        when = f"after round {self.round}" if self.round else "the model that it started from"
        return f"{self.experiment}, {self.model}, {when}"


Lineage = ModelFile | ParentModel
