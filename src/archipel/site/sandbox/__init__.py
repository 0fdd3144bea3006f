"""The sandbox, seen from the agent: it starts a worker, gives it memory, measures and ends it, and trusts no reply.

It knows processes, namespaces and limits; it does not know servers, rounds or approvals.
"""

from archipel.site.sandbox.command import is_visible
from archipel.site.sandbox.memory import SharedBuffer
from archipel.site.sandbox.spec import SandboxSpec, WorkerTaskFailed
from archipel.site.sandbox.starting import Sandbox
from archipel.site.sandbox.trial import sandbox_problem
from archipel.site.sandbox.usage import measure
from archipel.site.sandbox.worker import SandboxedWorker

__all__ = [
    "Sandbox",
    "SandboxSpec",
    "SandboxedWorker",
    "SharedBuffer",
    "WorkerTaskFailed",
    "is_visible",
    "measure",
    "sandbox_problem",
]
