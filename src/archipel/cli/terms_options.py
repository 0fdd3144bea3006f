"""The options of ``archipel run`` that say how long rounds wait, how often they are tried, and what a worker may use.

Bounds and defaults are those of the job's records, which Python uses too.
"""

from __future__ import annotations

from typing import Annotated

import typer

from archipel.vocabulary import GpuTerms, RoundTerms, WorkerLimits

TERMS = RoundTerms(rounds=1, quorum=1)
"""The terms' defaults."""
_LIMITS = WorkerLimits()


def _limit(option: str, words: str, default: float) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(option, help=f"{words} (by default {default:g}).")
    return found


Grace = Annotated[float, typer.Option(help="Seconds that a round waits for a site that is not connected.")]
Retries = Annotated[int, typer.Option(help="How often a failed round is tried again before the experiment pauses.")]
Resumes = Annotated[
    int, typer.Option(help="A round is tried at most (1 + retries) x (1 + resumes) times; sites see this number.")
]
Measurements = Annotated[
    int, typer.Option(help="How often the model is measured at most after a step, a pause or an early end.")
]
Memory = Annotated[int | None, _limit("--memory-mb", "MiB of memory of a site's worker", _LIMITS.memory_mb)]
Processor = Annotated[float | None, _limit("--cpu-s", "Seconds of processor time for one training", _LIMITS.cpu_s)]
Wall = Annotated[float | None, _limit("--wall-s", "Seconds that one training may last", _LIMITS.wall_s)]
Temporary = Annotated[int | None, _limit("--tmp-mb", "MiB of temporary files of a worker", _LIMITS.tmp_mb)]
Processes = Annotated[
    int | None, _limit("--processes", "How many processes and threads a worker may have", _LIMITS.processes)
]
Threads = Annotated[int | None, _limit("--threads", "How many threads each process computes with", _LIMITS.threads)]

GpuMemory = Annotated[
    int | None, typer.Option("--gpu-memory-mb", help="MiB of a GPU's memory; without it everything runs on the CPU.")
]
GpuOptional = Annotated[
    bool, typer.Option("--gpu-or-cpu", help="Run on the CPU at sites without a GPU, which do not refuse then.")
]


def gpu_terms(memory_mb: int | None, or_cpu: bool) -> GpuTerms | None:
    """What is asked of a GPU; None for the CPU alone. Raises BadInput for a bound that is outside of its own."""
    from archipel.researcher.checked_terms import checked

    if memory_mb is None:
        return checked(GpuTerms, {"required": False}) if or_cpu else None
    return checked(GpuTerms, {"memory_mb": memory_mb, "required": not or_cpu})


def worker_limits(
    *,
    memory_mb: int | None = None,
    cpu_s: float | None = None,
    wall_s: float | None = None,
    tmp_mb: int | None = None,
    processes: int | None = None,
    threads: int | None = None,
) -> WorkerLimits:
    """The limits that were given, and the default of each other one. Raises BadInput for one outside its bounds."""
    from archipel.researcher.checked_terms import checked

    given = {
        "memory_mb": memory_mb,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "tmp_mb": tmp_mb,
        "processes": processes,
        "threads": threads,
    }
    return checked(WorkerLimits, {name: value for name, value in given.items() if value is not None})
