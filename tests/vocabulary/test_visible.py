"""What cannot be seen is written out, and what can be seen stays as it is."""

from __future__ import annotations

import pytest

from archipel.vocabulary.visible import escape_hidden, escape_hidden_lines

CONTROL = "\x00\x1b\x7f\xad\u200b\u202e\u2028\u2029\ud800\ue000\u0378\U000e0001\U0010ffff"
BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180e\u2800\u3164\ufe00\ufe0f\uffa0\U00016fe4\U0001d159\U000e0100"


@pytest.mark.parametrize("one", CONTROL + BLANK, ids=ascii)
def test_a_hidden_character_is_written_out_among_others(one: str) -> None:
    escaped = one.encode("unicode_escape").decode()
    assert escape_hidden(f"a {one}é\t", keep="\t") == f"a {escaped}é\t"
    assert escape_hidden_lines(f"{one}\n{one}") == f"{escaped}\n{escaped}"


@pytest.mark.parametrize("text", ["", "plain", "é 中 ü", "a\u00a0b\u3000c", "\U0001f600", "\u034e\u1161\u2801\ufe10"])
def test_a_text_that_is_all_visible_stays(text: str) -> None:
    assert escape_hidden(text) == text and escape_hidden_lines(f"{text}\n\t{text}") == f"{text}\n\t{text}"
