"""What cannot be seen is written out, and what can be seen stays as it is."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as some

from archipel.vocabulary.visible import (
    BAR,
    escape_hidden,
    escape_hidden_lines,
    escape_markup,
    quote,
    quote_lines,
    quote_name,
)

CONTROL = "\x00\x1b\x7f\xad\u200b\u202e\u2028\u2029\ud800\ue000\u0378\U000e0001\U0010ffff"
BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180e\u2800\u3164\ufe00\ufe0f\uffa0\U00016fe4\U0001d159\U000e0100"
SPACES = "\u00a0\u1680\u2000\u2009\u202f\u205f\u3000"
IGNORABLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
"""Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties: what a screen may show nothing for."""


@pytest.mark.parametrize("one", CONTROL + BLANK + SPACES, ids=ascii)
def test_a_hidden_character_is_written_out_among_others(one: str) -> None:
    escaped = one.encode("unicode_escape").decode()
    assert escape_hidden(f"a {one}é\t", keep="\t") == f"a {escaped}é\t"
    assert escape_hidden_lines(f"{one}\n{one}") == f"{escaped}\n{escaped}"


@pytest.mark.parametrize("text", ["", "plain", "é 中 ü", "\U0001f600", "e\u0302\u0301\u034e\u1161\u2801\ufe10"])
def test_a_text_that_is_all_visible_stays(text: str) -> None:
    assert escape_hidden(text) == text and escape_hidden_lines(f"{text}\n\t{text}") == f"{text}\n\t{text}"


def test_every_character_that_a_screen_may_leave_out_and_every_space_but_one_is_written_out() -> None:
    ignorable = {number for first, last in IGNORABLE for number in range(first, last + 1)}
    spaces = {number for number in range(0x110000) if unicodedata.category(chr(number)) == "Zs"} - {ord(" ")}
    for number in ignorable | spaces | {0x2800}:
        assert escape_hidden(f"a{chr(number)}b").isascii(), hex(number)


def test_a_mark_without_a_letter_is_written_out_in_every_script() -> None:
    marks = [one for one in map(chr, range(0x110000)) if unicodedata.category(one) in ("Mn", "Me")]
    assert len(marks) > 1900
    for before in ("", "no ", "no\n", "no\t"):
        shown = {one for one in marks if not escape_hidden(f"{before}{one}b", keep="\n\t").isascii()}
        assert shown == set()
    # So is a stretch of them that mixes scripts, up to the next letter.
    assert escape_hidden("a \u0591\u064b\u0301é") == "a \\u0591\\u064b\\u0301é"


@pytest.mark.parametrize("mark", ["\u0e49", "\u05b0", "\u064e", "\u0952"])
def test_a_stack_of_marks_that_covers_the_lines_above_is_written_out(mark: str) -> None:
    assert escape_hidden(f"\u0e01{mark * 6} \u0e01{mark}") == "\u0e01" + ascii(mark)[1:-1] * 6 + f" \u0e01{mark}"
    assert escape_hidden("a" + "\u0301" * 4) == "a" + "\\u0301" * 4


@pytest.mark.parametrize(
    "words",
    [
        "שָׁלוֹם, בְּרֵאשִׁ֖ית הַשָּׁמַ֖יִם (לֵב)",
        "السَّلَامُ عَلَيْكُمْ، مُحَمَّدٌ «قَلْبٌ» إِنَّ",
        "हृदय की बीमारी, विद्यार्थियों के क्षेत्र «श्र्कृ»",
        "ผู้ป่วย เนื้องอก น้ำ ที่นี่ ปู่ (หัวใจ)",
        unicodedata.normalize("NFD", "Việt Nữ bệnh viện, tiếng ồn (tuổi)"),
        "བསྒྲུབས་པ། ཧཱུྃ་",
        "ကျွန်ုပ် လူ့အခွင့်အရေး",
        "ភ្នំពេញ ស្ត្រី",
        "நோயாளி রোগী ශ්‍රී".replace("\u200d", ""),
        "… “é” → ± 5 µm ‹ɑ̃̀› 😀😀😀😀",
    ],
)
def test_words_of_scripts_that_use_marks_stay_as_they_are(words: str) -> None:
    assert escape_hidden(words) == words and quote(words) == f'"{words}"'


@given(some.text())
def test_a_quoted_text_is_one_line_that_only_its_own_mark_closes(text: str) -> None:
    quoted = quote(text)
    assert quoted[0] == quoted[-1] == '"' and "\n" not in quoted
    inside = quoted[1:-1].replace("\\\\", "")
    assert '"' not in inside.replace('\\"', "") and not inside.endswith("\\")


@given(some.text())
def test_each_line_of_a_quotation_begins_with_a_bar(text: str) -> None:
    assert all(line.startswith(BAR) for line in quote_lines(text).splitlines())


@pytest.mark.parametrize("text", ["a b", "", "a,b", "a;b", "a: b", 'a"', "no\u3164", "line\n", "(a)"])
def test_only_a_word_stays_without_quotation_marks(text: str) -> None:
    assert quote_name(text) == quote(text)
    assert quote_name("10^9/L") == "10^9/L" and quote_name("données") == "données"


@pytest.mark.parametrize("text", ["\u0338", "a \u0338", "a\n\u20e0", "a" + "\u0336" * 4, "a\u0301\ufe20\u20dd\u1dff"])
def test_a_mark_that_would_be_drawn_over_other_text_is_written_out(text: str) -> None:
    assert escape_hidden_lines(text).isascii()


def test_a_page_is_given_neither_markup_nor_hidden_characters() -> None:
    assert escape_markup("<i>'\u202e\n\"&") == "&lt;i&gt;&#x27;\\u202e\n&quot;&amp;"
