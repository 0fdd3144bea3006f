"""Where a plan is to compute, and what its worker says of a GPU without memory."""

from __future__ import annotations

import torch

from archipel.plans import Context
from archipel.site.worker.serving import problem


def test_a_plan_computes_on_the_cpu_unless_it_is_given_a_gpu() -> None:
    assert Context(site="a", seed=1, round=1, rounds=1, arguments={}).device == "cpu"


def test_a_gpu_without_memory_is_the_limit_of_memory_and_no_other_error_of_that_name_is() -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    assert problem(torch.OutOfMemoryError("CUDA out of memory"), None).code == "limit-memory"
    assert problem(MemoryError(), None).code == "limit-memory"
    assert problem(OutOfMemoryError("a plan's own"), None).code == "plan-error"
