"""What the documentation says of pictures is what happens."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archipel.data import DataMapping, scan
from archipel.data.formats import detect
from archipel.vocabulary import DataNeeds

PAGE = Path(__file__).parents[3] / "docs" / "tables.md"
PICTURES = PAGE.read_text(encoding="utf-8").split("\n## Pictures\n")[1].split("\n## ")[0]


def trees() -> list[tuple[str, list[str]]]:
    """The format of each tree of the page, and the files in it."""
    lines = re.search(r"```text\n(.*?)```", PICTURES, re.DOTALL)[1].splitlines()
    columns = [place.start() for place in re.finditer(r"\S+", lines[0])]
    ends = [*columns[1:], 200]
    found = []
    for start, end in zip(columns, ends, strict=True):
        own = [line[start:end].rstrip() for line in lines]
        files = [line.strip() for line in own if line.startswith("  ") and "." in line]
        layout = next(word for line in own for word in re.findall(r"^[a-z]+-[a-z]+", line))
        found.append((layout, files))
    return found


@pytest.mark.parametrize("tree", range(4))
def test_each_tree_is_what_it_is_said_to_be(tmp_path, tree: int) -> None:
    layout, files = trees()[tree]
    places = [place for place in files if not place.endswith(".csv")]
    for number, place in enumerate(places):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 5), number, np.uint8)).save(tmp_path / place)
    if len(places) < len(files):
        rows = [f"{Path(place).stem},a" for place in places]
        (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows]))
    assert detect(tmp_path)[0].format == layout
    found = scan(layout, tmp_path)
    assert found.errors == () and len(found.samples) == len(places) > 1


def test_each_option_on_the_page_is_taken(tmp_path) -> None:
    for place in ("train/normal/n1.png", "val/pneumonia/p2.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 5), 3, np.uint8)).save(tmp_path / place)
    options = re.findall(r"(?:--option |[`])(mode|window|size|classes|names|split|subject)=([^`\s]+)", PICTURES)
    assert len(set(options)) >= 8
    for name, value in options:
        if value == "MEL,NV,BCC":
            continue  # of picture-table, whose page names the columns of its table
        assert scan("class-folders", tmp_path, {name: value}).errors == (), (name, value)


def test_the_pages_plan_and_mapping_are_read() -> None:
    code = re.search(r"```python\n(.*?)```", PICTURES, re.DOTALL)[1]
    names: dict[str, DataNeeds] = {}
    exec(code, names)
    assert names["needs"].target.categories == ("normal", "pneumonia")
    mapping = DataMapping.model_validate(tomllib.loads(re.search(r"```toml\n(.*?)```", PICTURES, re.DOTALL)[1]))
    assert mapping.value("class", {"class": "NORMAL"}) == "normal"
