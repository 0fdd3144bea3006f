"""The page "Bring a BIDS dataset", command by command, on the tree that it speaks of."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from archipel.cli.site import app
from archipel.site.datasets import catalog
from archipel.site.state.folder import StateFolder
from real_data import real_data

PAGE = Path(__file__).parents[2] / "docs" / "bring-a-bids-dataset.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.processes
def test_every_command_of_the_page_does_what_the_page_says(hospital: StateFolder) -> None:
    pytest.importorskip("bids")
    tree = real_data("bids_spine")
    output = ""
    for line in "".join(blocks("bash")).splitlines():
        if not line.strip():
            continue
        words = [word.replace("/data/bids_spine", str(tree)) for word in shlex.split(line, comments=True)]
        assert words[:2] == ["archipel", "site"]
        environment = {"ARCHIPEL_SITE_STATE": str(hospital.folder), "COLUMNS": "300"}
        done = CliRunner().invoke(app, words[2:], env=environment)
        assert (done.exit_code != 0) == line.endswith("# refused"), (line, done.output, done.exception)
        output += done.output
    promised = [one for one in blocks("text")[-1].splitlines() if one]
    assert len(promised) == 3
    for words in (
        *promised,
        "format bids: it holds dataset_description.json and sub-* folders",
        "are up to 0.5852 mm apart at their corners",
    ):
        assert words in output, (words, output)
    entry = catalog.dataset(hospital.database, "spine")
    assert entry.subjects == 1 and entry.mapping.label_names == {"1": "cord"}
    assert [one.name for one in catalog.datasets(hospital.database)] == ["spine"]
