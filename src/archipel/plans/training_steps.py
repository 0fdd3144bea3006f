"""The steps of training a network: gradients of one batch or of several, scaled where float16 would lose them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import torch

from archipel.plans.devices import Computing, Tensor
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, Thing

# Losses that a device has computed are read together: to read one is to wait for the device.
_READ_TOGETHER = 64


class LossMean:
    """The mean loss over the examples seen, as Python floats in the order of the batches.

    Raises ArchipelError (``not-finite``) for a loss that is NaN or infinite: in its own step on a processor, within 64
    steps on a device that works while Python continues.
    """

    def __init__(self, round_: int, computing: Computing) -> None:
        self._round, self._at_once = round_, 1 if not computing.waits else _READ_TOGETHER
        self._unread: list[tuple[Tensor, int]] = []
        self._total, self._seen = 0.0, 0

    def add(self, loss: Tensor, examples: int) -> None:
        """The mean loss of a batch of so many examples."""
        if self._at_once == 1:
            self._count(loss.item(), examples)
            return
        self._unread.append((loss.detach(), examples))
        if len(self._unread) >= self._at_once:
            self._read()

    def value(self) -> float:
        """The mean over all examples added."""
        self._read()
        return self._total / self._seen

    def _read(self) -> None:
        losses = [loss for loss, _ in self._unread]
        values = torch.stack(losses).tolist() if len(losses) > 1 else [loss.item() for loss in losses]
        for value, (_, examples) in zip(values, self._unread, strict=True):
            self._count(value, examples)
        self._unread.clear()

    def _count(self, value: float, examples: int) -> None:
        if not math.isfinite(value):
            raise ArchipelError(
                Thing.worded(f"the loss in round {self._round}", round=self._round),
                "is NaN or infinite",
                "lower the learning rate, or look for bad volumes and divisions by zero in the loss",
                code=ErrorCode.NOT_FINITE,
            )
        self._total, self._seen = self._total + value * examples, self._seen + examples


def train_on(
    batches: Iterable[tuple[Tensor, Tensor]],
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    before_step: Callable[[], None],
    computing: Computing,
    accumulation: int,
    losses: LossMean,
) -> None:
    """One step of the optimiser for every ``accumulation`` batches, and one for those that remain.

    The gradients of a step are those of the mean loss over all its examples, as if they had been one batch.
    ``before_step`` is called when they are there.
    """
    if accumulation < 1:
        cause, remedy = f"is {accumulation}", "declare 1 for a step after every batch, or more"
        raise BadInput("accumulation", cause, remedy, code=ErrorCode.BAD_PLAN)
    # float16 underflows: the loss is scaled up for the gradients, and these down again before anybody sees them.
    scaler = torch.amp.GradScaler(computing.device.type) if computing.autocast is torch.float16 else None
    remaining = iter(batches)
    for first in remaining:
        _drop_gradients(optimiser)
        examples = 0
        for inputs, targets in itertools.chain([first], itertools.islice(remaining, accumulation - 1)):
            with computing.casting():
                value = loss(network(computing.give(inputs)), computing.give(targets))
            value = value.float() if computing.autocast else value
            summed = value if accumulation == 1 else value * len(inputs)
            (scaler.scale(summed) if scaler else summed).backward()
            losses.add(value, len(inputs))
            examples += len(inputs)
        if scaler:
            scaler.unscale_(optimiser)
        if accumulation > 1:
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter.grad.div_(examples)
        before_step()
        if scaler:
            scaler.step(optimiser)
            scaler.update()
        else:
            optimiser.step()


def _drop_gradients(optimiser: torch.optim.Optimizer) -> None:
    """What ``zero_grad(set_to_none=True)`` does, which marks its begin and end for a profiler: of a small network that
    takes longer than the rest of it, in every step.
    """
    if getattr(optimiser.zero_grad, "__func__", None) is not torch.optim.Optimizer.zero_grad:
        optimiser.zero_grad(set_to_none=True)
        return
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
