"""The inside of the sandbox: the process in which an approved plan touches data, and the messages it exchanges.

It sees the plan's file, what was prepared of its cohort, the interpreter, and one socket to the agent. It imports no
database, no network and, unless the plan does, no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.worker.landlock import landlock_version
    from archipel.site.worker.protocol import (
        COHORT,
        HEADER,
        LARGEST_REPLY,
        Begin,
        Done,
        Evaluate,
        FromWorker,
        Model,
        NeedModel,
        NeedState,
        Prepare,
        Ready,
        Start,
        StateSpace,
        ToWorker,
        Train,
        WorkerError,
        WorkerReady,
        encode_message,
        from_worker,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "landlock": ["landlock_version"],
            "protocol": [
                "COHORT",
                "HEADER",
                "LARGEST_REPLY",
                "Begin",
                "Done",
                "Evaluate",
                "FromWorker",
                "Model",
                "NeedModel",
                "NeedState",
                "Prepare",
                "Ready",
                "Start",
                "StateSpace",
                "ToWorker",
                "Train",
                "WorkerError",
                "WorkerReady",
                "encode_message",
                "from_worker",
            ],
        },
    )

__all__ = [
    "COHORT",
    "HEADER",
    "LARGEST_REPLY",
    "Begin",
    "Done",
    "Evaluate",
    "FromWorker",
    "Model",
    "NeedModel",
    "NeedState",
    "Prepare",
    "Ready",
    "Start",
    "StateSpace",
    "ToWorker",
    "Train",
    "WorkerError",
    "WorkerReady",
    "encode_message",
    "from_worker",
    "landlock_version",
]
