"""The state folder that a command of ``archipel site`` is given: whatever it is called, it is named in full inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from archipel.cli.site import app
from archipel.cli.site_terminal import opened


@pytest.mark.parametrize("name", ["site", "./site", "../here/site"])
def test_a_folder_named_from_where_one_stands_is_named_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # A sandbox binds the paths that it is given, and stands in another folder than the command.
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert CliRunner().invoke(app, ["init", name, "--name", "charite"]).exit_code == 0
    with opened(Path(name)) as site:
        assert site.folder == here / "site"
        assert site.blobs.path(site.blobs.put(b"plan")).is_relative_to(here / "site")
