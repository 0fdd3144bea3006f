"""What a person reads of a plan is what Python runs: no name that looks like another, no text in another order."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from archipel.plans import declared, package
from archipel.plans.letters import refused_character
from archipel.plans.source import parsed, plan_text
from archipel.tensors import blob_hash
from archipel.vocabulary import BadInput, ErrorCode, PlanReference

FULL_WIDTH, CYRILLIC = "\uff4f\uff53", "p\u0430ss_on"
OUTSIDE = "outside of strings and comments in line"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"x = 1\n{FULL_WIDTH} = 2\n", rf"\(FULLWIDTH LATIN SMALL LETTER O, U\+FF4F\) {OUTSIDE} 2; use ASCII in names"),
        (f"def {CYRILLIC}(): pass\n", rf"\(CYRILLIC SMALL LETTER A, U\+0430\) {OUTSIDE} 1"),
        ("données = 1\n", rf"'é' \(LATIN SMALL LETTER E WITH ACUTE, U\+00E9\) {OUTSIDE} 1"),
        ("x\u00a0= 1\n", rf"\(NO-BREAK SPACE, U\+00A0\) {OUTSIDE} 1"),
        ("\u3164 = 1\n", rf"'\\u3164' \(HANGUL FILLER, U\+3164\) {OUTSIDE} 1"),
        (f"x = f'''é\n{{{FULL_WIDTH}.name}}'''\n", rf"U\+FF4F\) {OUTSIDE} 2"),
        (f"x = f\"{{'}}' + {FULL_WIDTH}.name}}\"\n", rf"U\+FF4F\) {OUTSIDE} 1"),
        (f"x = f'{{{{{{{FULL_WIDTH}}}}}}}'\n", rf"U\+FF4F\) {OUTSIDE} 1"),
        (f"x = Rf'\\N{{{FULL_WIDTH}}}'\n", rf"U\+FF4F\) {OUTSIDE} 1"),
        ("# ok\n# \u202eko\n", r"'\\u202e' \(RIGHT-TO-LEFT OVERRIDE, U\+202E\), which changes .* in line 2; remove it"),
        ("x = 'a\u2066b'\n", r"'\\u2066' \(LEFT-TO-RIGHT ISOLATE, U\+2066\), which changes .* in line 1"),
        ("x = ('é'\n", "has a syntax error in line 2: EOF in multi-line statement; fix it"),
    ],
)
def test_code_outside_ascii_and_text_in_another_order_are_refused_with_their_line(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=rf"^plan\.py: has .*{words.removeprefix('has ')}") as caught:
        plan_text(text.encode(), "plan.py")
    assert caught.value.code is ErrorCode.BAD_PLAN


@pytest.mark.parametrize("one", "\v\f\x1c\x1d\x1e\x85\u2028\u2029", ids=ascii)
def test_what_other_programs_take_for_the_end_of_a_line_is_refused_with_its_line(one: str) -> None:
    assert len(f"a{one}b".splitlines()) == 2, "a traceback would show another line than the one that failed"
    for text in (f"x = 1\n# a{one}b\n", f"x = 1\ny = 'a{one}b'\n", f"x = 1\ny = 1{one}\n"):
        with pytest.raises(BadInput, match=r"^plan\.py: has (a form feed|the character U\+.*, which .*) in line 2"):
            plan_text(text.encode(), "plan.py")


@given(some.text(alphabet="a'#\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", max_size=20))
def test_the_lines_of_a_text_that_is_taken_are_the_same_for_python_and_for_a_traceback(text: str) -> None:
    try:
        taken = plan_text(text.encode(), "plan.py")
    except BadInput:
        return
    lines = taken.replace("\r\n", "\n").split("\n")
    assert taken.splitlines() == (lines if lines[-1] else lines[:-1])


def test_no_letter_that_python_reads_as_another_one_is_taken_in_a_name() -> None:
    changed = [one for one in map(chr, range(0x80, 0x110000)) if unicodedata.normalize("NFKC", one) != one]
    names = [one for one in changed if f"a{one}".isidentifier()]
    assert len(names) > 1_000
    for one in names:
        refused = refused_character(f"a{one} = 1\n")
        assert refused is not None and f"U+{ord(one):04X}" in refused[0]


def test_a_look_alike_is_refused_where_a_plan_is_packaged_and_where_a_job_names_it(tmp_path: Path) -> None:
    text = f"class Mine(Plan):\n    def {CYRILLIC}(self): pass\n"
    (tmp_path / "plan.py").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="CYRILLIC SMALL LETTER A"):
        package(tmp_path)
    reference = PlanReference(files={"plan.py": blob_hash(text.encode())}, entry="plan.py", class_name="Mine")
    with pytest.raises(BadInput, match="CYRILLIC SMALL LETTER A"):
        declared(reference, [("plan.py", text.encode())])


@pytest.mark.parametrize(
    "text",
    [
        "# données de l'hôpital\nx = 'à gauche' + \"±\" + '''é\nü'''\n",
        "raise ValueError(f'données absentes : {x!r:>{width}} ({{é}}) à {y}')\n",
        "x = 'אבג'  # 心臓\r\n",
        "x = '\\u202e'\n",
    ],
)
def test_comments_and_strings_may_be_in_any_language(text: str) -> None:
    assert plan_text(text.encode(), "plan.py") == text


@given(some.text(alphabet="f'\"{}N\\ \n#:=aé\uff4f()", max_size=24))
def test_no_name_of_a_text_that_is_taken_is_another_one_than_is_written(text: str) -> None:
    """The oracle is Python: in a text that is taken, each name that Python finds is written in ASCII."""
    try:
        refused = refused_character(text)
        names = _names(text)
    except (SyntaxError, ValueError):
        return
    if refused is None:
        assert not [name for name in names if {"o", "é"} & set(name)]


def _names(text: str) -> set[str]:
    """The names that a text uses. In the alphabet above only the full-width letter, once folded, gives an o."""
    code = compile(text, "plan.py", "exec", dont_inherit=True)
    return {name for name in code.co_names if not name.startswith("__")}


@pytest.mark.parametrize(
    ("deep", "line"),
    [
        ("y = " + "-" * 100_000 + "1\n", 2),
        ("y = a" + ".b" * 100_000 + "\n", 2),
        ("y = 1" + "+1" * 100_000 + "\n", 2),
        ("y = " + "lambda: " * 20_000 + "1\n", 2),
        ("y = " + "(" * 150 + "a" + ".b" * 5_000 + ")" * 150 + "\n", 2),
    ],
    ids=["minus", "attributes", "sums", "lambdas", "parentheses"],
)
def test_what_is_nested_too_deeply_is_named_with_its_line(tmp_path: Path, deep: str, line: int) -> None:
    (tmp_path / "plan.py").write_text("class Mine(Plan): pass\n")
    (tmp_path / "deep.py").write_text(f"x = 1\n{deep}z = 3\n")
    with pytest.raises(BadInput) as caught:
        package(tmp_path)
    assert str(caught.value) == (
        f"deep.py: is nested too deeply for Python in line {line}; split that line into several statements"
    )
    assert caught.value.code is ErrorCode.BAD_PLAN


def test_what_only_the_compiler_refuses_is_named_when_a_plan_is_packaged() -> None:
    with pytest.raises(BadInput, match="has a syntax error in line 2: 'return' outside function; fix it"):
        parsed("x = 1\nreturn x\n", "plan.py")


def test_the_depth_that_is_left_does_not_make_a_plan_unreadable() -> None:
    """Deep inside of a program the same text is refused in the same words, not with Python's own error."""
    left = sys.getrecursionlimit() - 100

    def called(times: int) -> None:
        if times:
            called(times - 1)
        else:
            parsed("x = a" + ".b" * 5_000, "plan.py")

    with pytest.raises(BadInput, match="is nested too deeply for Python in line 1"):
        called(left - _depth())


def _depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth
