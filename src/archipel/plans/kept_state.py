"""What a site keeps of an experiment from round to round, as one run of bytes: its local part, the optimiser's state.

The local part is a tensor file whose size follows from the job, so what comes after it is the optimiser's tensor file.
A job without a local part keeps the optimiser's file alone.
"""

from __future__ import annotations

from archipel.tensors import check_header, tensor_file_size
from archipel.vocabulary import BadInput, Job, OptimiserState, TaskKind

_BESIDE = 64 << 20
"""Bytes of an optimiser's state beside four numbers for each one that is trained."""


def local_size(job: Job) -> int:
    """Bytes of the local part's tensor file; 0 for a job without one."""
    return 0 if job.local is None else tensor_file_size(job.local.tensors)


def divided(job: Job, kept: bytes | None) -> tuple[bytes | None, bytes | None]:
    """The local part and the optimiser's state, each None where there is none.

    Raises ValueError when the job has a local part and ``kept`` is too short for it.
    """
    if job.local is None or kept is None:
        return None, kept
    size = local_size(job)
    if len(kept) < size:
        raise ValueError(f"what was kept has {len(kept)} bytes, the job's local part needs {size}")
    return kept[:size], kept[size:] or None


def most_bytes(job: Job, kind: TaskKind) -> int:
    """The most bytes that are kept of a task of this kind."""
    if kind is TaskKind.EVALUATE:
        return 0
    trained = job.tensors.nbytes + (job.local.tensors.nbytes if job.local is not None else 0)
    continues = kind is TaskKind.TRAIN and job.optimiser_state is OptimiserState.CONTINUE_LOCAL
    return local_size(job) + (4 * trained + _BESIDE if continues else 0)


def fault_in(job: Job, kind: TaskKind, kept: bytes | None) -> str:
    """Why this cannot be what is kept of such a task: it does not begin with the job's local part. Empty if it can."""
    if job.local is None or kind is TaskKind.EVALUATE:
        return ""
    try:
        check_header(job.local.tensors, (kept or b"")[: local_size(job)])
    except BadInput as error:
        return f"kept no local part of the job's tensors ({error})"
    return ""
