"""How many threads numerical libraries use in a process: settings that they read once, when they are loaded."""

from __future__ import annotations

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables that hold BLAS, OpenMP and torch to this many threads; they must be set before numpy loads.

    Sums are rounded differently with another number of threads, so a worker and a simulation set the job's number.

    >>> thread_variables(1)["OMP_NUM_THREADS"]
    '1'
    """
    return dict.fromkeys(_VARIABLES, str(threads))
