"""The plan that ``benchmarks/device.sh`` runs: on its context's device it does what the argument ``do`` says."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archipel.plans import Context, Plan, TrainingResult
from archipel.vocabulary import DataNeeds, MetricSpec, MetricSum

WIDTH, BATCHES, SIZE = 2048, 200, 512
MIB = 1 << 20


def network(device: str) -> Any:
    """A perceptron with the same first values each time."""
    torch.manual_seed(0)
    layers: list[Any] = []
    for _ in range(4):
        layers += [torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 1)).to(device)


def epoch(model: Any, device: str) -> float:
    """The mean loss of one epoch on drawn batches; all of it is done when this returns."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    draw = torch.Generator(device="cpu").manual_seed(1)
    inputs = torch.randn(SIZE * 8, WIDTH, generator=draw).to(device)
    total = torch.zeros((), device=device)
    for number in range(BATCHES):
        chosen = inputs[(number % 8) * SIZE : (number % 8 + 1) * SIZE]
        optimiser.zero_grad()
        loss = (model(chosen)[:, 0] - chosen.mean(1)).square().mean()
        loss.backward()
        optimiser.step()
        total += loss.detach()
    return float(total) / BATCHES


class DevicePlan(Plan):
    """What the worker of the benchmark does; ``seen`` comes back as the text of an error, which stays at the site."""

    needs = DataNeeds(kind="arrays", minimum_subjects=1)
    metrics = (MetricSpec(name="loss", better="lower"),)

    def initial_model(self, seed: int) -> dict[str, Any]:
        """The tensors of the job; the network is the plan's own."""
        return {"weight": np.zeros(4, np.float32)}

    def prepare(self, training: object, validation: object, context: Context) -> None:
        """Nothing of the data is read."""
        self.model: Any = None
        self.kept: list[Any] = []

    def train(self, model: Mapping[str, Any], context: Context) -> TrainingResult:
        """Do what the argument says."""
        what, loss = str(context.arguments["do"]), 0.0
        if what == "look":
            raise RuntimeError(f"SEEN {seen()!r} END")
        if what == "train":
            if self.model is None:
                self.model = network(context.device)
            loss = epoch(self.model, context.device)
        if what == "take":
            for _ in range(int(context.arguments["mib"]) // 64):
                self.kept.append(torch.ones(64 * MIB, dtype=torch.uint8, device=context.device))
            torch.cuda.synchronize()
            time.sleep(5)
        if what == "compute on":
            # Queued for about a minute, and not awaited: the runtime waits, and a hostile plan would see to it that it
            # does not.
            square = torch.randn(8192, 8192, device=context.device)
            began = time.perf_counter()
            square @ square
            torch.cuda.synchronize()
            one = time.perf_counter() - began
            torch.cuda.synchronize = lambda *_: None
            for _ in range(min(1000, int(60 / max(one, 1e-4)))):
                square @ square
        return TrainingResult({"loss": MetricSum(total=loss, weight=1.0)})


def seen() -> dict[str, object]:
    """What this process sees of GPUs."""
    nodes = [str(path) for path in sorted(Path("/dev").rglob("*")) if "nvidia" in str(path) or "dri" in str(path)]
    return {
        "devices": torch.cuda.device_count(),
        "uuids": [str(torch.cuda.get_device_properties(one).uuid) for one in range(torch.cuda.device_count())],
        "nodes": [node for node in nodes if not Path(node).is_dir()],
        "cards": sorted(path.name for path in Path("/proc/driver/nvidia/gpus").glob("*")),
        "named": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
