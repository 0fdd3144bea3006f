"""An experiment is named in full or by how it begins; what is not here is answered with what is like it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from archipel.cli.site import app
from archipel.site.approval import offers
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import Conflict, NotFound
from worlds.site import PLAN, job_for


@pytest.fixture
def offered(with_table: StateFolder) -> StateFolder:
    with_table.blobs.put(PLAN)
    for name in ("hippocampus-5c3d0e", "hippocampus-5c3d0e-2", "heart-9a", "heart-1b"):
        offers.record(with_table, job_for(with_table, experiment=name))
    return with_table


def terminal(site: StateFolder, *words: str | Path, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, [*map(str, words), "--state", str(site.folder)], input=answer)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("heart-9", "heart-9a"),
        ("hippocampus-5c3d0e", "hippocampus-5c3d0e"),
        ("hippocampus-5c3d0e-", "hippocampus-5c3d0e-2"),
    ],
)
def test_a_beginning_that_only_one_name_has_is_that_name(offered: StateFolder, text: str, name: str) -> None:
    assert offers.named(offered.database, text) == name
    assert f"experiment {name} (offered)" in terminal(offered, "plans", text).stdout


def test_a_beginning_of_several_names_them(offered: StateFolder) -> None:
    with pytest.raises(Conflict, match=r"experiment heart: may be heart-(9a|1b), heart-(9a|1b); give more of its name"):
        offers.named(offered.database, "heart")


def test_a_mistyped_name_is_answered_with_what_is_like_it(offered: StateFolder) -> None:
    with pytest.raises(NotFound, match=r"did you mean hippocampus-5c3d0e or hippocampus-5c3d0e-2\?"):
        offers.named(offered.database, "hipocampus-5c3d0e")
    for nothing in ("", "xyz"):
        with pytest.raises(NotFound, match="was not offered to this site; see archipel site plans"):
            offers.named(offered.database, nothing)


def test_decisions_take_a_beginning_and_a_script_takes_the_whole_name(offered: StateFolder) -> None:
    assert "rejected heart-9a" in terminal(offered, "reject", "heart-9").stdout
    assert "matches the beginning of heart-1b; name it in full with --yes" in str(
        terminal(offered, "approve", "heart-1", "--yes").exception
    )
    assert "approved heart-1b for 6 subjects" in terminal(offered, "approve", "heart-1", answer="y\n").stdout
    assert "revoked heart-1b" in terminal(offered, "revoke", "heart-1").stdout
