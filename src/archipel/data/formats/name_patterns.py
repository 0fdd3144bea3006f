"""Name patterns: what a person's regular expressions find in file names, tried by a process of its own.

Python's matching cannot be stopped from within, and a short pattern can take centuries on a name of 40 letters.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from archipel.data.limits import DATA_LIMITS
from archipel.data.samples import sample_name
from archipel.vocabulary import BadInput, Thing

LONGEST = 200
LONGEST_SESSION = 100
_TOGETHER = 2_000
"""Letters of names that are asked for together: names and answers fit into a pipe, however JSON writes them."""
_PROGRAM = Path(__file__).with_name("pattern_finder.py")
NAME_OPTIONS: Mapping[str, str] = {
    "subject": "a regular expression that finds the patient in the name that a file or folder has, e.g. ^[^_]+",
    "session": "with subject: one that finds the visit in that name, e.g. [^_]+$ (by default the whole name)",
}
"""The options of formats that find patients in names."""


class NamePatterns:
    """Patterns by the option that gives each, tried on one name after the other; use it in a ``with`` block.

    Raises BadInput for a text that is not a pattern or is too long, and where a name takes more than ``seconds`` of
    processor time.
    """

    def __init__(self, patterns: Mapping[str, str], seconds: int = DATA_LIMITS.pattern_s) -> None:
        self._patterns, self._seconds = dict(patterns), seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._answered = 0
        for option, pattern in self._patterns.items():
            if len(pattern) > LONGEST:
                thing = f"option {option}={pattern[:45]}..."
                raise BadInput(thing, f"is longer than {LONGEST} letters", _remedy(option))

    def __enter__(self) -> NamePatterns:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def found(self, name: str) -> tuple[str, ...]:
        """What each pattern finds: its first group, or all that matches where there is none; "" where nothing does."""
        if self._process is None:
            self._begin()
        answer = self._ask(name)
        # The limit is for a name: after many others a new process tries this one again.
        if answer is None and self._answered:
            self._end()
            self._begin()
            answer = self._ask(name)
        if answer is None:
            option, pattern = next(iter(self._patterns.items()))
            simpler = "give a simpler pattern, without a repeat inside a repeat, for example ^[^_]+"
            raise BadInput(f"option {option}={pattern}", f"needs more than {self._seconds} s for {name}", simpler)
        self._answered += 1
        return tuple(answer)

    def found_in_each(self, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """The same for many names, several at a time."""
        remaining = deque(names)
        if self._process is None:
            self._begin()
        while remaining:
            together = [remaining.popleft()]
            letters = 0
            while remaining and letters + len(remaining[0]) < _TOGETHER:
                letters += len(remaining[0])
                together.append(remaining.popleft())
            # The first starts the process, and tells whether the limit was that of the names before.
            yield self.found(together[0])
            answers = self._ask_all(together[1:])
            yield from answers
            remaining.extendleft(reversed(together[1 + len(answers) :]))

    def _ask_all(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """The program's answers to so many names as its time allows; all names must fit into a pipe."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(b"".join(json.dumps(name).encode() + b"\n" for name in names))
            process.stdin.flush()
        except BrokenPipeError:
            return []
        answers = []
        for _ in names:
            line = process.stdout.readline()
            if not line.endswith(b"\n"):
                break
            answers.append(tuple(json.loads(line)))
        self._answered += len(answers)
        return answers

    def _begin(self) -> None:
        # Isolated and without site-packages: it starts fast, and the environment cannot add other code.
        command = [sys.executable, "-I", "-S", str(_PROGRAM), str(self._seconds)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self._answered = 0
        fault = self._ask(list(self._patterns.values()))
        if fault is None:
            option, pattern = next(iter(self._patterns.items()))
            cause = f"needs more than {self._seconds} s to be understood"
            raise BadInput(f"option {option}={pattern}", cause, _remedy(option))
        if fault:
            option = next(name for name, pattern in self._patterns.items() if pattern == fault[0])
            raise BadInput(f"option {option}={fault[0]}", fault[1], _remedy(option))

    def _ask(self, asked: str | list[str]) -> list[str] | None:
        """The program's answer; None when its time was up."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return None
        line = process.stdout.readline()
        return list(json.loads(line)) if line.endswith(b"\n") else None

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _remedy(option: str) -> str:
    return f"give a regular expression, for example {'^[^_]+' if option == 'subject' else '[^_]+$'}"


def found_in(
    names: Sequence[str], pattern: str, seconds: int = DATA_LIMITS.pattern_s, *, option: str = "subject"
) -> dict[str, str]:
    """What the pattern of an option finds in each name. Raises BadInput as ``NamePatterns`` does."""
    with NamePatterns({option: pattern}, seconds) as patterns:
        found = patterns.found_in_each(names)
        return {name: first for name, (first,) in zip(names, found, strict=True)}


def visits_in(names: Sequence[str], pattern: str, seconds: int) -> dict[str, str]:
    """What the pattern of option ``session`` finds in each name: the whole name without a pattern, or where it finds
    nothing. Raises BadInput as ``NamePatterns`` does."""
    found = found_in(names, pattern, seconds, option="session") if pattern else {}
    return {name: (found.get(name) or name)[:LONGEST_SESSION] for name in names}


def lone_session(pattern: str) -> BadInput:
    """The error for the option session where nothing says which names are one patient's."""
    return BadInput(
        Thing.worded(f"option session={pattern}", option="session", value=pattern),
        "needs the option subject beside it",
        "add --option subject=PATTERN, which finds the patient in a name, for example ^[^_]+",
    )


class PatientNames:
    """The patient and the visit in the names that a format takes for subjects, by the options subject and session."""

    def __init__(self, patterns: NamePatterns, *, has_session: bool) -> None:
        self._patterns, self._has_session = patterns, has_session
        self._known: dict[str, tuple[str, ...]] = {}

    def __call__(self, name: str, session: str = "") -> tuple[str, str]:
        """Patient and session of the visit that a format calls ``name`` and ``session``; the patient is "" where the
        name has none. Without a pattern for it the session is the whole name."""
        if name not in self._known:
            self._known[name] = self._patterns.found(name)
        patient, *visits = self._known[name]
        if self._has_session:
            return patient, visits[0][:LONGEST_SESSION] or session
        return patient, session if patient == name else sample_name(name, session)[:LONGEST_SESSION]
