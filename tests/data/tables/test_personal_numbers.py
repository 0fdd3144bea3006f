"""Identity and insurance numbers are known by their check digits, and numbers of samples are never taken for them."""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from archipel.data import format_named, scan
from archipel.data.tables.personal_numbers import PERSONAL_NUMBERS, ColumnNumbers, PersonalNumber

KINDS = {kind.name: kind for kind in PERSONAL_NUMBERS}
KNOWN = [
    ("AHV number", "7569217076985", "https://www.zas.admin.ch, the example of the guide"),
    ("NIR", "255081416802538", "INSEE, the example of its page"),
    ("NIR", "184127645108946", "the usual example of its key"),
    ("BSN", "111222333", "the test number of the Dutch government"),
    ("NHS number", "9434765919", "the example of the NHS data dictionary"),
    ("codice fiscale", "RSSMRA85T10A562S", "Mario Rossi of the Agenzia delle Entrate"),
    ("KVNR", "A123456780", "the example of the GKV"),
    ("DNI", "12345678Z", "the example of the Ministerio del Interior"),
    ("DNI", "X1234567L", "the same for foreigners"),
    ("PESEL", "44051401359", "the example of the Polish page"),
    ("personnummer", "8112189876", "the example of Skatteverket"),
    ("personnummer", "198112189876", "the same with its century"),
]


@pytest.mark.parametrize(("name", "text", "source"), KNOWN)
def test_a_published_number_is_right_and_each_other_check_sign_is_not(name: str, text: str, source: str) -> None:
    kind = KINDS[name]
    assert kind.form.fullmatch(text) and kind.is_right(text)
    signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if text[-1].isalpha() else "0123456789"
    right = [sign for sign in signs if kind.is_right(text[:-1] + sign)]
    assert right == [text[-1]]


def made(kind: PersonalNumber, count: int, first: Callable[[random.Random], str]) -> list[str]:
    """Numbers of a kind with right check signs, from texts that lack the last one or two."""
    dice, found = random.Random(kind.name), list[str]()
    endings = [*"0123456789", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *(f"{number:02}" for number in range(100))]
    while len(found) < count:
        start = first(dice)
        found += [start + end for end in endings if kind.form.fullmatch(start + end) and kind.is_right(start + end)][:1]
    return found


STARTS: dict[str, Callable[[random.Random], str]] = {
    "AHV number": lambda dice: f"756{dice.randrange(10**9):09}",
    "NIR": lambda dice: f"1{dice.randrange(100):02}0{dice.randrange(1, 10)}75{dice.randrange(10**6):06}",
    "BSN": lambda dice: f"{dice.randrange(10**7, 10**8)}",
    "NHS number": lambda dice: f"{dice.randrange(10**8, 10**9)}",
    "KVNR": lambda dice: f"{dice.choice('ABCXYZ')}{dice.randrange(10**8):08}",
    "DNI": lambda dice: f"{dice.randrange(10**8):08}",
    "PESEL": lambda dice: (
        f"{dice.randrange(100):02}0{dice.randrange(1, 10)}1{dice.randrange(10)}{dice.randrange(10**4):04}"
    ),
    "personnummer": lambda dice: (
        f"{dice.randrange(100):02}0{dice.randrange(1, 10)}1{dice.randrange(10)}{dice.randrange(10**3):03}"
    ),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_column_of_personal_numbers_stays_out(tmp_path: Path, name: str) -> None:
    numbers = made(KINDS[name], 9, STARTS[name])
    lines = [f"p{at},{40 + at},{number}" for at, number in enumerate(numbers)]
    (tmp_path / "table.csv").write_text("id,age,code\n" + "\n".join(lines) + "\n")
    found = scan("table", tmp_path)
    assert set(found.schema.columns) == {"age"}
    (problem,) = found.problems
    assert problem.cause == "column code holds an insurance or identity number in 9 rows; it is left out"
    # The remedy as it is typed.
    (typed,) = re.findall(r"--option (\S+)", problem.remedy)
    option, _, column = shlex.split(typed)[0].partition("=")
    kept = scan("table", tmp_path, {option: column})
    assert set(kept.schema.columns) == {"age", "code"} and kept.problems == ()
    # Nor is it among the columns that a plan may ask for when the rows are read.
    assert "code" not in found.schema.columns
    assert next(iter(format_named("table").read(tmp_path, found.samples, {}))).values["age"] == 40.0


def test_a_column_of_telephone_numbers_without_signs_stays_out() -> None:
    assert found_in(["0041791234567", "0041443216549", "0049301234567"]) is not None
    assert found_in(["0791234567", "0781234568", "0761239999"]) is not None


def found_in(texts: list[str]) -> tuple[str, int] | None:
    numbers = ColumnNumbers()
    for text in texts:
        numbers.add(text)
    return numbers.found


def test_a_tenth_of_wrong_cells_hides_nothing_and_more_does() -> None:
    right = made(KINDS["BSN"], 20, STARTS["BSN"])
    assert found_in([*right[:18], "123456789", "unknown"]) == ("an insurance or identity number", 18)
    assert found_in([*right[:10], *(f"x{number}" for number in range(10))]) is None


@pytest.mark.parametrize("length", [8, 9, 10, 11, 13, 15])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_numbers_of_samples_are_never_personal_numbers(length: int, step: int) -> None:
    dice = random.Random(f"{length} {step}")
    for _ in range(40):
        first = dice.randrange(10 ** (length - 1), 10**length - 10**5)
        assert found_in([str(first + step * place) for place in range(40)]) is None
        assert found_in([f"A{first + step * place}" for place in range(40)]) is None


@pytest.mark.parametrize(
    "texts",
    [["111222333"], ["9434765919"], ["A123456780", "x"], ["20240131", "20240201", "20240202", "20240203", "20240204",
      "20240205", "20240206"], ["111222333"] * 50, [f"{number:08x}" for number in range(10**8, 10**8 + 50)], [],
     [f"{number}" for number in range(50)], ["0000000000"] * 9],
)  # fmt: skip
def test_few_repeated_or_other_numbers_are_not_certain(texts: list[str]) -> None:
    assert found_in(texts) is None
