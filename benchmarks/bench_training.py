"""What a site's local epoch costs in the sandboxed worker beside the same epoch as a bare PyTorch loop.

Both do the same steps on the same phantoms with the same network, loss, optimiser, batch size and one thread; they
take turns, so that whatever else the machine does falls on both. The worker's time is what the agent waits for: the
message, the model into the network, the epoch, the check for finite numbers and the model back in shared memory.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from archipel.data import Cohort, PreparedCache, RawSource, scan, split
from archipel.data.synthetic import phantom
from archipel.plans import load
from archipel.plans.job_builder import draft
from archipel.site.sandbox import Sandbox, SandboxSpec, SharedBuffer
from archipel.tensors import blob_hash
from archipel.vocabulary import Job, RosterEntry, RoundTerms, Task, TaskKey, TrainingPass, WorkerLimits

PLAN = Path(__file__).with_name("bench_plan.py")
SITE = "site-a"


def bench_spec(subjects: int, folder: Path) -> tuple[SandboxSpec, Path, bytes]:
    """What the worker needs, with the dataset's folder and the initial model's tensor file; every subject trains."""
    folder.chmod(0o755)
    (folder / "site").mkdir()
    (root,) = phantom.generate(folder / "data", (SITE,), subjects_per_site=subjects)
    made = draft(
        PLAN,
        experiment="bench-training",
        roster=[RosterEntry(site=SITE, identity_key="ed25519:" + "0" * 64, dataset="phantom")],
        server_key="ed25519:" + "0" * 64,
        validation_fraction=0.0,
        terms=RoundTerms(rounds=1000, quorum=1),
        limits=WorkerLimits(threads=1),
    )
    cohort = Cohort(dataset="phantom", format="nifti-pairs", samples=scan("nifti-pairs", root).samples)
    spec = SandboxSpec(
        job=made.job,
        site=SITE,
        open_file=lambda _: nullcontext(PLAN),
        cohort=cohort,
        files=PreparedCache(folder / "site" / "prepared", 1 << 30).prepare(root, cohort).files,
        limits=made.job.limits,
        mode="required",
        log_path=folder / "worker.log",
        state_folder=folder / "site",
        uid_base=720_000,
    )
    return spec, root, made.initial_model


def bench_task(job: Job, round_: int) -> Task:
    """One round of training."""
    key = TaskKey(experiment=job.experiment, round=round_)
    return Task(key=key, job_hash=blob_hash(b""), models=(job.initial_model,), passes=(TrainingPass(round=round_),))


def bare_epoch(root: Path, cohort: Cohort) -> Callable[[], float]:
    """The epoch as anybody would write it in PyTorch; the function returned runs it and returns its seconds."""
    import torch
    from monai.losses import DiceCELoss
    from monai.networks.nets import UNet

    torch.set_num_threads(1)
    plan: Any = load(PLAN)
    training, _ = split(RawSource(root, cohort), cohort, 0.0, plan.needs)
    inputs, targets = plan.examples(training)
    network = UNet(3, 1, 3, (16, 32, 64), (2, 2), num_res_units=0, norm="instance")
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)

    def epoch() -> float:
        began = time.perf_counter()
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
        network.train()
        for chosen in torch.randperm(len(inputs)).split(4):
            optimiser.zero_grad()
            loss = loss_of(network(inputs[chosen]), targets[chosen])
            loss.backward()
            optimiser.step()
        return time.perf_counter() - began

    return epoch


async def run(pairs: int = 11, subjects: int = 40) -> dict[str, Any]:
    """Measure ``pairs`` pairs of epochs on ``subjects`` phantoms, after one pair that warms both up.

    Raises ArchipelError (code ``sandbox``) where the sandbox cannot be had: nothing else would be the worker.
    """
    with tempfile.TemporaryDirectory(prefix="archipel-bench-") as name:
        spec, root, tensor_file = bench_spec(subjects, Path(name))
        epoch = bare_epoch(root, spec.cohort)
        model, result = SharedBuffer.create(len(tensor_file)), SharedBuffer.create(len(tensor_file))
        model.write(tensor_file, 0)
        worker = await Sandbox.start(spec)
        try:
            await worker.prepare()
            bare, sandboxed = [], []
            for round_ in range(pairs + 1):
                bare.append(epoch())
                began = time.perf_counter()
                await worker.train(bench_task(spec.job, round_), model, result, None)
                sandboxed.append(time.perf_counter() - began)
        finally:
            await worker.kill()
            model.close()
            result.close()
    return summary(bare[1:], sandboxed[1:], subjects)


def summary(bare: list[float], worker: list[float], subjects: int) -> dict[str, Any]:
    """Medians, and the median of the ratios of each pair."""
    ratios = [ours / theirs for theirs, ours in zip(bare, worker, strict=True)]
    return {
        "pairs": len(ratios),
        "subjects": subjects,
        "bare_seconds": round(statistics.median(bare), 4),
        "worker_seconds": round(statistics.median(worker), 4),
        "ratio": round(statistics.median(ratios), 4),
    }
