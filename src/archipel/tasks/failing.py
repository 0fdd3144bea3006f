"""What may leave the site about an error: its code and a sentence that the agent wrote.

A sentence says what happened and, after a semicolon, what a researcher can do about it, where that is known.
"""

from __future__ import annotations

from archipel.vocabulary import ArchipelError, Conflict, ErrorCode, Failure

_SENTENCES = {
    ErrorCode.BAD_DATA: "the site's data does not meet the plan's needs",
    ErrorCode.BAD_INPUT: "the site could not use what it was given",
    ErrorCode.BAD_PLAN: "the plan could not be loaded",
    ErrorCode.BAD_UPDATE: "the update was refused by the server",
    ErrorCode.CONFLICT: "the task does not match what the site has",
    ErrorCode.CRASHED: "the worker ended without an answer",
    ErrorCode.DATA_CHANGED: "a file of the approved cohort changed at the site",
    ErrorCode.DISK_FULL: "the site's disk is full",
    ErrorCode.GPU: "the site cannot give the task the GPU that the job asks for; people at the site can read why",
    ErrorCode.LIMIT_CPU: "the task used more processor time than the job allows; ask for more (cpu_s) or "
    "do less in a round",
    ErrorCode.LIMIT_MEMORY: "the task used more memory than the job allows; ask for more (memory_mb) or use less",
    ErrorCode.LIMIT_TIME: "the task took longer than the job allows; ask for more (wall_s) or do less in a round",
    ErrorCode.MODEL_CHANGED: "the model does not have the parameters of its job any more; keep their names, types and "
    "shapes the same in all rounds",
    ErrorCode.NOT_APPROVED: "the site has not approved this",
    ErrorCode.NOT_FINITE: "training gave NaN or infinite values; lower the learning rate, or look for "
    "divisions by zero",
    ErrorCode.NOT_FOUND: "the site could not find something that the task names",
    ErrorCode.PLAN_ERROR: "the plan failed; its error text is at the site, where a person may release it",
    ErrorCode.POLICY: "the site's policy does not allow this",
    ErrorCode.REPLAYED: "the task's key was used before with other content",
    ErrorCode.REVOKED: "the site withdrew its approval",
    ErrorCode.SANDBOX: "the site has no sandbox and refuses to train without one; "
    "its people can read the remedy with archipel site status",
    ErrorCode.TRUST: "what the site holds is not what was approved or signed",
}
_NOT_HELD = "the newest signed result that the site holds is not that of the round which this follows"
_PASSING = frozenset({ErrorCode.CRASHED, ErrorCode.DISK_FULL})


class ResultNotHeld(Conflict):
    """A task follows another round than the newest one whose signed result this site holds."""


def failure_of(error: BaseException) -> Failure:
    """What leaves the site about an error raised by the agent's own code: never the error's text."""
    code = error.code if isinstance(error, ArchipelError) else ErrorCode.INTERNAL
    sentence = _NOT_HELD if isinstance(error, ResultNotHeld) else sentence_of(code)
    return Failure(code=code, sentence=sentence, retry=code in _PASSING)


def sentence_of(code: ErrorCode) -> str:
    """The agent's own words for a code."""
    return _SENTENCES.get(code, "something went wrong at the site; its log has the details")
