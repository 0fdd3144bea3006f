"""Examples of a site's subjects for a network: all in memory, or made for each batch while the one before trains.

Both give the same batches. Made on demand they may be more than memory holds: behind them are samples in mapped files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeAlias

import torch

from archipel.data import SubjectSet

Tensor: TypeAlias = torch.Tensor
Make = Callable[[SubjectSet], tuple[Tensor, Tensor]]
"""From subjects to inputs and targets, one example a subject, each a function of its subject alone."""


class Examples(Protocol):
    """Inputs and targets of some subjects."""

    def __len__(self) -> int: ...

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets at each group of places."""


class InMemory:
    """Two tensors, made once."""

    def __init__(self, make: Make, subjects: SubjectSet) -> None:
        self.inputs, self.targets = make(subjects)

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets at each group of places."""
        for places in chosen:
            yield self.inputs[places], self.targets[places]


class OnDemand:
    """Made whenever a batch is asked for, one batch ahead in a thread of its own."""

    def __init__(self, make: Make, subjects: SubjectSet) -> None:
        self._make, self._subjects = make, subjects

    def __len__(self) -> int:
        return len(self._subjects)

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets at each group of places. Raises what making them raises."""
        # The thread ends with the epoch: between tasks nothing of a plan is left running.
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(1, "examples", torch.set_num_threads, (threads,)) as ahead:
            coming: Future[tuple[Tensor, Tensor]] | None = None
            for places in chosen:
                ready, coming = coming, ahead.submit(self._make, self._subjects[places.tolist()])
                if ready is not None:
                    yield ready.result()
            if coming is not None:
                yield coming.result()


class Chosen:
    """Some of other examples, in an order of their own, each as often as its place is named."""

    def __init__(self, examples: Examples, places: Tensor) -> None:
        self._examples, self._places = examples, places

    def __len__(self) -> int:
        return len(self._places)

    def batches(self, chosen: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets at each group of places."""
        return self._examples.batches(self._places[places] for places in chosen)
