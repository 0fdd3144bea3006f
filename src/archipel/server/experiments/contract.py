"""What may be asked of experiments: the contract between those who keep them and the interfaces that people use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import BinaryIO, Protocol

from archipel.transport.rest import Event, ExperimentSummary, ExperimentView, ModelView, RoundView
from archipel.vocabulary import Actor, Job, Value
from archipel.vocabulary.states import ControlVerb


class ExperimentService(Protocol):
    """What may be asked of experiments; every method raises NotFound for an experiment that is not there."""

    async def submit(self, job: Job, token: str) -> ExperimentView:
        """Keep a job and ask its sites for approval; ``token`` is an access token's id. Raises Conflict, BadInput."""

    async def delete_unnamed(self, blobs: Collection[str]) -> None:
        """Delete those of these blobs that no experiment names."""

    async def token(self, experiment: str) -> str:
        """The id of the access token that submitted it."""

    async def has_asked_for(self, name: str, blob: str) -> bool:
        """Whether an experiment that a token of this name submitted has the blob as a kept model or names it."""

    async def all(self) -> Sequence[ExperimentSummary]:
        """Every experiment in a line, newest first."""

    async def get(self, experiment: str) -> ExperimentView:
        """One experiment with its approvals."""

    async def control(self, experiment: str, verb: ControlVerb, *, by: Actor) -> ExperimentView:
        """Steer it; the experiment as it is then. Raises Conflict when its state does not allow the verb."""

    async def set_arguments(self, experiment: str, values: Mapping[str, Value], *, by: Actor) -> ExperimentView:
        """Change hyper-parameters for the rounds to come, inside their bounds. Raises BadInput."""

    async def rounds(self, experiment: str) -> Sequence[RoundView]:
        """The records of its rounds, oldest first."""

    def events(self, experiment: str, after: int, follow: bool) -> AsyncIterator[Event]:
        """Events after ``seq``; with ``follow`` it continues until the experiment has ended."""

    async def models(self, experiment: str) -> Sequence[ModelView]:
        """Its kept models."""

    async def open_model(self, experiment: str, name: str) -> tuple[BinaryIO, int]:
        """A model's safetensors file and its size in bytes. Raises NotFound."""
