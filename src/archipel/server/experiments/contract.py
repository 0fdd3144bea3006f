"""What may be asked of experiments: the contract between those who keep them and the interfaces that people use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, BinaryIO, Literal, Protocol

from archipel.vocabulary import Job, Value

ControlVerb = Literal["start", "pause", "resume", "step", "cancel"]


class ExperimentService(Protocol):
    """What may be asked of experiments; every method raises NotFound for an experiment that is not there.

    What it returns is plain JSON data, in the shapes of ``rest.shapes``.
    """

    async def submit(self, job: Job, owner: str) -> dict[str, Any]:
        """Keep a job and ask its sites for approval; ``owner`` is an access token's id. Raises Conflict, BadInput."""

    async def owner(self, experiment: str) -> str:
        """The id of the access token that submitted it."""

    async def all(self) -> list[dict[str, Any]]:
        """Every experiment, newest first."""

    async def get(self, experiment: str) -> dict[str, Any]:
        """One experiment with its approvals."""

    async def control(self, experiment: str, verb: ControlVerb) -> dict[str, Any]:
        """Steer it; the experiment as it is then. Raises Conflict when its state does not allow the verb."""

    async def set_arguments(self, experiment: str, values: Mapping[str, Value]) -> dict[str, Any]:
        """Change hyper-parameters for the rounds to come, inside their bounds. Raises BadInput."""

    async def rounds(self, experiment: str) -> list[dict[str, Any]]:
        """The records of its rounds, oldest first."""

    def events(self, experiment: str, after: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
        """Events ``{seq, at, kind, body}`` after ``seq``; with ``follow`` it goes on until the experiment has ended."""

    async def models(self, experiment: str) -> list[dict[str, Any]]:
        """Its kept models."""

    async def open_model(self, experiment: str, name: str) -> tuple[BinaryIO, int]:
        """A model's safetensors file and its size in bytes. Raises NotFound."""
