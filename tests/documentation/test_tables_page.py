"""What the page "Tables: what is checked" says about each of its tables is what a scan says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archipel.data import scan
from archipel.data.formats.delimited import Tables

PAGE = Path(__file__).parents[2] / "docs" / "tables-checked.md"
CASES = re.findall(r"```csv\n(.*?)```\n+```text\n(.*?)```", PAGE.read_text(), re.DOTALL)


def lines(root: Path, text: str, options: dict[str, str] | None = None) -> list[str]:
    folder = root / "data"
    folder.mkdir(exist_ok=True)
    (folder / "table.csv").write_text(text, encoding="utf-8")
    return sorted(f"{one.severity}: {one}" for one in scan("table", folder, options or {}).problems)


@pytest.mark.parametrize(("text", "said"), CASES)
def test_a_table_of_the_page_is_told_of_as_the_page_says(tmp_path: Path, text: str, said: str) -> None:
    assert lines(tmp_path, text) == sorted(said.splitlines())


@pytest.mark.parametrize(("text", "said"), CASES)
def test_an_option_of_the_page_settles_what_it_is_said_about(tmp_path: Path, text: str, said: str) -> None:
    for line in said.splitlines():
        for option in re.findall(r"--option (\S+)", line):
            name, _, value = option.partition("=")
            assert line not in lines(tmp_path, text, {name: value}), option


def test_the_page_has_every_kind_of_case() -> None:
    assert len(CASES) >= 9
    named = set(re.findall(r"`(?:--option )?(\w+)=", PAGE.read_text())) | set(
        re.findall(r"--option (\w+)=", PAGE.read_text())
    )
    assert named <= Tables.options.keys()
    assert {"number", "censored", "text", "keep", "decimal", "thousands", "header", "sheet", "file"} <= named
