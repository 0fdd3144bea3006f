"""Answers: whether a dataset has one thing that a plan needs."""

from __future__ import annotations

from enum import StrEnum

from archipel.vocabulary import Record


class Verdict(StrEnum):
    """The answer for one need."""

    MET = "met"
    MAPPED = "met by mapping"
    NOT_MET = "not met"


class Answer(Record):
    """One need of the plan, the verdict and, where there is something to say, why."""

    need: str
    verdict: Verdict
    why: str = ""

    def __str__(self) -> str:
        return f"{self.need}: {self.verdict}" + (f" ({self.why})" if self.why else "")
