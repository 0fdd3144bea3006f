"""A plan's source as text: the one text that people read, that is hashed and that runs.

Python obeys a coding cookie when it compiles bytes, and starts a new line at a lone carriage return, where a page shows
neither; other programs start a line where Python does not. So the bytes are decoded as UTF-8 once, everything that
would make them differ is refused, and the text is compiled.
``letters`` says which characters stand where.
"""

from __future__ import annotations

import ast
import io
import tokenize

from archipel.plans.letters import refused_character
from archipel.vocabulary import BadInput, ErrorCode, Thing

_BREAK = "which some programs take for the end of a line and Python does not,"
_UNSEEN = {
    "\0": ("a NUL character", "remove it"),
    "\f": ("a form feed", "remove it"),
    "\ufeff": ("a byte order mark", "save it as UTF-8 without one"),
} | {
    one: (f"the character U+{ord(one):04X}, {_BREAK}", "remove it; in a string write it as an escape sequence")
    for one in "\v\x1c\x1d\x1e\x85\u2028\u2029"
}
"""What Python compiles otherwise than it is shown: with the characters of the second part, a traceback, which counts
lines as ``str.splitlines`` does, would show another line than the one that failed."""
_TOO_DEEP = (RecursionError, MemoryError)
"""What Python raises for source that is nested too deeply: its parser, and the steps after it."""


def plan_text(source: bytes, file_name: str) -> str:
    """The text of a plan's source.

    Raises BadInput (code ``bad-plan``) when the bytes are not UTF-8, name another encoding in a coding line (PEP 263),
    or hold a lone carriage return, another line separator than CR LF and LF, a NUL, a byte order mark, or a character
    that ``letters`` refuses.
    """
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_plan(file_name, "is not UTF-8 text", "save the plan as UTF-8 Python source") from error
    for character, (name, remedy) in _UNSEEN.items():
        if character in text:
            raise bad_plan(file_name, f"has {name} in line {_line(text, character)}", remedy)
    lines = text.replace("\r\n", "\n")
    if "\r" in lines:
        cause = f"has a carriage return without a line feed in line {_line(lines, chr(13))}"
        raise bad_plan(file_name, cause, "save the plan with one kind of line ending")
    _check_coding(lines, file_name)
    try:
        refused = refused_character(text)
    except SyntaxError as error:
        raise _not_python(error, file_name) from error
    if refused is not None:
        raise bad_plan(file_name, *refused)
    return text


def parsed(text: str, file_name: str) -> ast.Module:
    """The syntax tree of a plan's text, which Python can also compile.

    Raises BadInput (code ``bad-plan``), with the line, for a syntax error and for what is nested too deeply.
    """
    try:
        tree = ast.parse(text, filename=file_name)
        compile(tree, file_name, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise _not_python(error, file_name) from error
    except _TOO_DEEP as error:
        cause = f"is nested too deeply for Python in line {_deep_line(text)}"
        raise bad_plan(file_name, cause, "split that line into several statements") from error
    return tree


def _deep_line(text: str) -> int:
    """The first line with which the text is nested too deeply, by halving: Python does not name it."""
    lines = text.split("\n")
    low, high = 0, len(lines)
    while high - low > 1:
        middle = (low + high) // 2
        if _is_too_deep("\n".join(lines[:middle])):
            high = middle
        else:
            low = middle
    return high


def _is_too_deep(text: str) -> bool:
    try:
        compile(text, "plan", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    except _TOO_DEEP:
        return True
    return False


def _not_python(error: SyntaxError, file_name: str) -> BadInput:
    cause = f"has a syntax error in line {error.lineno}: {error.msg}"
    return bad_plan(file_name, cause, "fix it and package it again")


def _line(text: str, character: str) -> int:
    return text.count("\n", 0, text.index(character)) + 1


def _check_coding(lines: str, file_name: str) -> None:
    """Refuse a coding line that names anything but UTF-8, and one whose encoding Python does not know."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(lines.encode()).readline)
    except SyntaxError as error:
        raise bad_plan(file_name, f"has a coding line that Python refuses: {error}", "remove that line") from error
    if encoding != "utf-8":
        raise bad_plan(file_name, f"has a coding line that names {encoding}", "remove it; a plan is UTF-8 text")


def bad_plan(thing: str, cause: str, remedy: str) -> BadInput:
    """The error for a plan that cannot be used; ``thing`` is its file, or its class."""
    return BadInput(Thing.worded(thing, plan=thing), cause, remedy, code=ErrorCode.BAD_PLAN)
