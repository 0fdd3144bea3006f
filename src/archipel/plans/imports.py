"""Which packages a plan imports, read from its files without running them.

The files are read token by token: a tree of the syntax of a plan of a megabyte takes a gigabyte of memory, and the
server and every site read plans of others. Imports are found wherever they stand, inside of functions too. What a plan
imports under a name that it makes when it runs cannot be read; where it may do so is said instead.
"""

from __future__ import annotations

import io
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from archipel.plans.source import bad_plan
from archipel.vocabulary.bounds import LONGEST_PACKAGE, MOST_PACKAGES

_ALWAYS_THERE = sys.stdlib_module_names | {"archipel", "__main__"}
_DYNAMIC = frozenset(
    (
        "__import__", "import_module", "exec_module", "load_module", "spec_from_file_location", "SourceFileLoader",
        "runpy", "pkgutil", "zipimport", "__builtins__", "builtins", "__loader__",
    )
)  # fmt: skip
"""Names with which a module is imported whose name the text need not have."""
_RUNS_TEXT = frozenset(("exec", "eval"))
"""Functions that run text. After a dot the name is another one, as in ``network.eval()``."""
_CAUGHT = frozenset(("ImportError", "ModuleNotFoundError", "Exception", "BaseException"))
_FOLLOW = frozenset(("except", "else", "elif", "finally"))
_SKIPPED = frozenset((tokenize.COMMENT, tokenize.NL))
_ENDS = frozenset((tokenize.NEWLINE, tokenize.ENDMARKER))
_MOST_PLACES = 20


@dataclass(frozen=True)
class PlanImports:
    """What a plan's files import, by the names before the first dot and in order, beside Python's own and archipel.

    ``needed`` are imported without another way; ``optional`` only where the plan handles that they are not there
    (inside of a ``try`` that catches ImportError), or for type checkers. ``dynamic`` are the first places, as
    ``plan.py:12``, where the plan may import under names that its text does not show. ``every`` has Python's own too.
    """

    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    every: frozenset[str] = frozenset()

    @property
    def packages(self) -> tuple[str, ...]:
        """All of them, in order."""
        return tuple(sorted((*self.needed, *self.optional)))


def imports_of(files: Mapping[str, str]) -> PlanImports:
    """What the texts of a plan's files, by their paths, import; relative imports are of the plan's own files.

    What Python cannot split into tokens it cannot run either: what follows in that file is left out.
    """
    found: dict[str, bool] = {}
    dynamic: list[str] = []
    for path, text in sorted(files.items()):
        reader = _FileReader()
        reader.read(text)
        for name, guards in reader.found:
            found[name] = found.get(name, False) or not any(guard.is_handled for guard in guards)
        dynamic += [f"{path}:{line}" for line in sorted(reader.dynamic)]
    others = {name: is_needed for name, is_needed in found.items() if name not in _ALWAYS_THERE}
    return PlanImports(
        needed=tuple(sorted(name for name, is_needed in others.items() if is_needed)),
        optional=tuple(sorted(name for name, is_needed in others.items() if not is_needed)),
        dynamic=tuple(dynamic[:_MOST_PLACES]),
        every=frozenset(found),
    )


def packages_to_name(files: Mapping[str, str]) -> tuple[str, ...]:
    """The packages that a job names. Raises BadInput (code ``bad-plan``) for too many or a name that is too long."""
    packages = imports_of(files).packages
    if len(packages) > MOST_PACKAGES:
        raise bad_plan("the plan", f"imports {len(packages)} packages", f"import at most {MOST_PACKAGES}")
    for name in packages:
        if len(name) > LONGEST_PACKAGE:
            cause = f"imports a package with a name of {len(name)} characters"
            raise bad_plan("the plan", cause, f"import packages with at most {LONGEST_PACKAGE}")
    return packages


def check_named(packages: Iterable[str], files: Mapping[str, str]) -> None:
    """Raise BadInput (code ``bad-plan``) if a job names packages that no file of its plan imports."""
    named = set(packages)
    if not named:
        return
    if extra := sorted(named - imports_of(files).every):
        more = f" and {len(extra) - 1} others" if len(extra) > 1 else ""
        cause = f"names package {extra[0]}{more}, which no file of the plan imports"
        raise bad_plan("the job", cause, "make the job again from the plan")


@dataclass
class _Guard:
    """A ``try``, or an ``if TYPE_CHECKING``: whether what stands in it may be missing."""

    depth: int
    is_try: bool
    is_handled: bool = False
    is_open: bool = True


@dataclass
class _FileReader:
    """Reads one file, statement by statement."""

    found: list[tuple[str, tuple[_Guard, ...]]] = field(default_factory=list)
    dynamic: set[int] = field(default_factory=set)
    _seen: set[tuple[str, tuple[int, ...]]] = field(default_factory=set)
    _guards: list[_Guard] = field(default_factory=list)
    _depth: int = 0

    def read(self, text: str) -> None:
        words: list[str] = []
        """The start of the statement: all of an import, the condition of an ``if``, what an ``except`` catches."""
        is_start = is_kept = True
        is_inline = False
        """Whether the statement is on one line with the ``try:`` or ``if:`` that it is inside of."""
        brackets, before = 0, ""
        for token in _tokens(text):
            if token.type == tokenize.INDENT:
                self._depth += 1
                continue
            if token.type == tokenize.DEDENT:
                self._depth -= 1
                continue
            word = token.string
            self._note_dynamic(token, before)
            before = word
            if brackets == 0 and (token.type in _ENDS or word in (";", ":")):
                if words:
                    self._take(words, opens=word == ":")
                words, is_start, is_inline = [], True, token.type not in _ENDS and (is_inline or word == ":")
                continue
            brackets = max(0, brackets + (word in "([{") - (word in ")]}")) if token.type == tokenize.OP else brackets
            if is_start:
                if not is_inline:
                    self._leave(word)
                is_kept = word in ("import", "from", "try", "if", "except")
            is_start = False
            if is_kept:
                words.append(word)

    def _leave(self, first: str) -> None:
        """Forget the guards that end before a statement that begins with this word."""
        while self._guards:
            guard = self._guards[-1]
            if guard.depth > self._depth or (guard.depth == self._depth and first not in _FOLLOW):
                self._guards.pop()
                continue
            if guard.depth == self._depth and not (guard.is_try and first == "except"):
                guard.is_open = False
            return

    def _take(self, words: list[str], opens: bool) -> None:
        match words:
            case ["import", *names]:
                is_first = True
                for name in names:
                    if is_first:
                        self._found(name)
                    is_first = name == ","
            case ["from", name, *_] if not name.startswith("."):
                self._found(name)
            case ["try"] if opens:
                self._guards.append(_Guard(self._depth, is_try=True))
            case ["if", "TYPE_CHECKING"] | ["if", "typing", ".", "TYPE_CHECKING"] if opens:
                self._guards.append(_Guard(self._depth, is_try=False, is_handled=True))
            case ["except", *caught] if opens and self._guards and self._guards[-1].is_try:
                self._guards[-1].is_handled |= not caught or not _CAUGHT.isdisjoint(caught)

    def _found(self, name: str) -> None:
        guards = tuple(guard for guard in self._guards if guard.is_open)
        key = (name, tuple(map(id, guards)))
        if key not in self._seen:
            self._seen.add(key)
            self.found.append((name, guards))

    def _note_dynamic(self, token: tokenize.TokenInfo, before: str) -> None:
        word = token.string
        if token.type == tokenize.NAME:
            is_dynamic = word in _DYNAMIC or (word in _RUNS_TEXT and before not in (".", "def"))
        elif token.type == tokenize.STRING:
            # Python 3.11 has an f-string, whose expressions are code, as one token.
            prefix = word[: min(word.index(quote) for quote in "'\"" if quote in word)]
            is_dynamic = "f" in prefix.lower() and any(name in word for name in (*_DYNAMIC, *_RUNS_TEXT))
        else:
            return
        if is_dynamic and len(self.dynamic) < _MOST_PLACES:
            self.dynamic.add(token.start[0])


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type not in _SKIPPED:
                yield token
    except (tokenize.TokenError, SyntaxError):
        return
