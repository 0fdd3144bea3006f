"""Where and how a TorchPlan computes: its network and batches on one device, layers under autocast, memory formats.

Everything that a plan declares of this holds on every device, so that sites with and without a GPU compute alike; the
bits are the same on processors only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Self, TypeAlias

import torch

from archipel.vocabulary import BadInput, ErrorCode

Tensor: TypeAlias = torch.Tensor

_AUTOCAST = (None, torch.bfloat16, torch.float16)
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
# cuBLAS gives the same bits twice only with a workspace of fixed size (its manual, "Results Reproducibility").
_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@dataclass(frozen=True)
class Computing:
    """One plan's way of computing: on ``device``, with layers in ``autocast`` (None: in their own type), tensors of
    images with their channels last, a ``compiled`` network, ``deterministic`` algorithms only.
    """

    device: torch.device
    autocast: torch.dtype | None = None
    channels_last: bool = False
    compiled: bool = False
    deterministic: bool = False

    @classmethod
    @cache
    def on(
        cls, device: str, autocast: torch.dtype | None, channels_last: bool, compiled: bool, deterministic: bool
    ) -> Self:
        """This way of computing on the device that torch names so; the same object each time."""
        return cls(torch.device(device), autocast, channels_last, compiled, deterministic)

    def __post_init__(self) -> None:
        if self.autocast not in _AUTOCAST:
            raise BadInput(
                "autocast",
                f"is {self.autocast!r}",
                "declare torch.bfloat16, torch.float16, or None for none",
                code=ErrorCode.BAD_PLAN,
            )

    @cached_property
    def waits(self) -> bool:
        """Whether the device works while Python continues, so that reading a number of it waits for all before it."""
        return bool(self.device.type != "cpu")

    def place(self, network: torch.nn.Module) -> torch.nn.Module:
        """Bring a network to the device, in the declared memory format, to be compiled when it is first used."""
        network.to(self.device)
        if self.channels_last:
            for tensor in network.parameters():
                tensor.data = self._ordered(tensor.data)
        if self.compiled:
            network.compile()
        return network

    def give(self, batch: Tensor) -> Tensor:
        """A batch on the device. From pinned memory it travels while the device works on the one before."""
        if self.waits and batch.device.type == "cpu":
            pinned = batch.pin_memory() if self.device.type == "cuda" else batch
            batch = pinned.to(self.device, non_blocking=True)
        return self._ordered(batch) if self.channels_last else batch

    def _ordered(self, tensor: Tensor) -> Tensor:
        """Images, or the weights of a convolution, with their channels last; other tensors as they are."""
        if tensor.ndim not in _CHANNELS_LAST:
            return tensor
        return tensor.contiguous(memory_format=_CHANNELS_LAST[tensor.ndim])

    def casting(self) -> contextlib.AbstractContextManager[object]:
        """Within it layers compute in the declared type; parameters, gradients and losses keep theirs."""
        if self.autocast is None:
            return contextlib.nullcontext()
        casting: contextlib.AbstractContextManager[object] = torch.autocast(self.device.type, dtype=self.autocast)
        return casting

    def outputs(self, network: torch.nn.Module, inputs: Tensor) -> Tensor:
        """What a network makes of a batch, on the device; float32 also where its layers compute in a shorter type."""
        with self.casting():
            outputs: Tensor = network(self.give(inputs))
        return outputs.float() if outputs.dtype in _AUTOCAST else outputs

    @contextlib.contextmanager
    def algorithms(self) -> Iterator[None]:
        """Within it only algorithms that give the same bits again on the same device, if the plan declares it; an
        operation that has none raises RuntimeError, which names it.
        """
        if not self.deterministic:
            yield
            return
        os.environ.setdefault(*_WORKSPACE)
        before, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
            torch.backends.cudnn.benchmark = benchmark
