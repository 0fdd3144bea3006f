"""What a strategy is: the rule by which the updates of one round become the next model.

A strategy is a value without state. It is called chunk by chunk, from several threads, and must give the same numbers
whatever the chunks are; it returns from ``step`` what it needs in the next round, and the server keeps it together with
the round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from archipel.tensors import Array, ChunkStack
from archipel.vocabulary import Release, TensorSpec


@dataclass(frozen=True)
class SiteStats:
    """What a strategy may weigh a site by: the number of samples that it trained on."""

    site: str
    samples: int


class Strategy(Protocol):
    """A class that is a strategy must define all six members below; none of them may keep state between calls.

    ``needs``: SUM when the weighted mean of the updates is enough; INDIVIDUALLY when ``combine`` reads rows or
    ``weights`` depends on more than each site's own samples. ``memory``: names of the tensor files kept at the server
    between rounds, each with the model's tensors in float64. ``uses_model``: whether ``step`` reads the model that the
    round started from.
    """

    @property
    def needs(self) -> Release:
        """What must leave the sites for this strategy to work."""

    @property
    def memory(self) -> tuple[str, ...]:
        """The names of what is kept from round to round."""

    @property
    def uses_model(self) -> bool:
        """Whether ``step`` reads the model that the round started from."""

    def weights(self, stats: Sequence[SiteStats]) -> list[float]:
        """One weight per site, in site order: none negative, a positive sum.

        Where only sums may leave, each site asks for its own weight alone, and multiplies its update by it.
        """

    def combine(self, stack: ChunkStack, weights: Sequence[float]) -> Array:
        """One chunk, float64 [count], out of every site's: ``stack.mean(weights)``, or of ``stack.rows()``.

        Where only sums may leave there are no rows, and the mean is of updates that were multiplied at their sites.
        """

    def step(
        self, leaf: TensorSpec, start: int, model: Array, aggregate: Array, memory: Mapping[str, Array]
    ) -> tuple[Array, Mapping[str, Array]]:
        """The chunk of the next model and of each memory, all float64 [count], from element ``start`` of ``leaf`` on.

        ``model`` is the chunk of the model that the round started from (empty unless ``uses_model``), ``aggregate``
        what ``combine`` gave, ``memory`` the chunk of each memory, zeros before the first round. Nothing that is given
        may be written to.
        """
