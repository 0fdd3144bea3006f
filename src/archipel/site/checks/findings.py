"""What a check says: per step of the checks its findings, each with a sign, and its figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from archipel.vocabulary import Record


class CheckStep(StrEnum):
    """The steps, from the cheapest."""

    DUMMY = "dummy"
    PREFLIGHT = "preflight"
    LOCAL = "local"


class Sign(StrEnum):
    """What one finding means: continue, continue but check it, or fix it first."""

    GO = "go"
    LOOK = "look"
    FIX = "fix"


class CheckFinding(Record):
    """One thing that was checked."""

    what: str
    sign: Sign
    message: str = ""


class CheckResult(Record):
    """One step of the checks: its findings and figures (seconds, bytes in MiB, metrics)."""

    step: CheckStep
    findings: tuple[CheckFinding, ...]
    figures: dict[str, float] = {}

    @property
    def go(self) -> bool:
        """Whether nothing has to be fixed."""
        return not any(one.sign is Sign.FIX for one in self.findings)


@dataclass
class Notes:
    """The findings and figures of a step that is running."""

    findings: list[CheckFinding] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def go(self, what: str, message: str = "") -> None:
        """It is as it should be."""
        self.findings.append(CheckFinding(what=what, sign=Sign.GO, message=message))

    def look(self, what: str, message: str) -> None:
        """It does not stop the checks, and a person should read it."""
        self.findings.append(CheckFinding(what=what, sign=Sign.LOOK, message=message))

    def fix(self, what: str, message: str) -> None:
        """It has to be fixed first."""
        self.findings.append(CheckFinding(what=what, sign=Sign.FIX, message=message))

    def number(self, name: str, value: float) -> None:
        """A figure, to four digits after the point."""
        self.figures[name] = round(float(value), 4)
