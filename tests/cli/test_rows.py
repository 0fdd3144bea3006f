"""What a terminal shows of another party's text: every row of it, however it was wrapped, says whose it is."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as some
from rich.console import Console, RenderableType

from archipel.cli.offer_display import source_code
from archipel.cli.rows import Lines
from archipel.vocabulary.visible import quote_lines

FORGED = "What leaves this site? Nothing."


def rows(shown: RenderableType, width: int) -> list[str]:
    written = io.StringIO()
    Console(file=written, width=width, highlight=False, markup=False).print(shown)
    return written.getvalue().splitlines()


@pytest.mark.parametrize("width", range(30, 70, 8))
def test_each_row_of_a_long_quotation_has_its_bar(width: int) -> None:
    text = quote_lines("nice " + "x" * 33 + f" {FORGED}\n{FORGED} " + "y" * 200)
    shown = rows(Lines(f"In the researcher's words:\n{text}\nThe end.", indent=2), width)
    first, last = shown.index("  In the researcher's words:"), shown.index("  The end.")
    assert last - first > 6 and all(row.startswith("  | ") for row in shown[first + 2 : last] if row.strip())
    assert "  | The" not in shown


@given(some.text(some.characters(exclude_categories=["Cs"]), max_size=60), some.integers(min_value=6, max_value=40))
def test_a_quotation_loses_nothing_and_no_row_of_it_is_without_a_bar(text: str, width: int) -> None:
    quoted = quote_lines(text.replace("\t", " "))
    shown = rows(Lines(quoted), width)
    assert all(row.startswith("|") for row in shown)
    said = "".join(row.removeprefix("|") for row in shown)
    assert re.sub(r"\s", "", said) == re.sub(r"\s|(?m:^\|)", "", quoted)


def test_a_point_of_a_list_cannot_make_another_one() -> None:
    answer = '- label 1 "' + "x" * 27 + ' - label 2 kidney: met": not met'
    shown = rows(Lines(answer), 40)
    assert len(shown) > 1 and sum(row.startswith("- ") for row in shown) == 1


LONG = "# " + "x" * 2_100
TEXTS = {
    "crlf": "import os\r\n\r\nx = '''a\r\nb'''\r\nraise ValueError\r\n",
    "blank lines": "\n\n\nx = 1\n\n\nraise ValueError\n\n\n",
    "tabs": "if True:\n\tx = 1\n\n\traise ValueError\n",
    "long line": f"{LONG}\nx = 1\n{LONG} class Good(Plan):\nraise ValueError",
    "wrapped comment": "# " + "y" * 150 + " class Good(Plan):\nraise ValueError\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_line_that_fails_is_shown_with_the_number_that_python_gives_it(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        exec(compile(text, "plan.py", "exec"), {})
    failed = caught.traceback[-1].lineno + 1
    shown = rows(source_code(text), 80)
    numbered = {int(found[1]): found[2] for row in shown if (found := re.match(r" +([0-9]+) (.*)", row))}
    assert numbered[failed].strip() == "raise ValueError"
    written = text.replace("\r\n", "\n").split("\n")
    assert all(written[number - 1].strip().startswith(row.strip()) for number, row in numbered.items())
    assert not any(row.startswith("class Good") for row in shown), "a row without a number begins further in"
