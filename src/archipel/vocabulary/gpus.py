"""What a job asks of a site's GPU, and how a site's owner names one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from archipel.vocabulary.wrong_values import Terms

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
GPU_NAME = rf"^([0-9]{{1,3}}|(GPU|MIG)-{_UUID})$"

GpuName = Annotated[str, StringConstraints(pattern=GPU_NAME)]
"""A GPU by its index, by its UUID (``GPU-...``), or a MIG slice by its UUID (``MIG-...``), as ``nvidia-smi -L`` shows
them.
"""


class GpuTerms(Terms):
    """The GPU that a job's worker gets at a site: ``memory_mb`` of its memory, in 2**20 bytes.

    With ``required`` False the job runs on the CPU at a site whose owner named no GPU.

    >>> GpuTerms(memory_mb=12288).required
    True
    """

    memory_mb: Annotated[int, Field(ge=256)] = 8192
    required: bool = True
