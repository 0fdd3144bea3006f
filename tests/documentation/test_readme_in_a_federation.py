"""What the README shows is done as it stands there: by a researcher and two hospitals, with real processes."""

from __future__ import annotations

import re
import shlex
import shutil
import threading
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from typer.testing import CliRunner

from archipel.cli.main import app
from archipel.data.synthetic import phantom
from archipel.lab.processes import LocalFederation, LocalSite, wait_for
from archipel.site.approval import offers
from archipel.vocabulary import NotFound

mpl.use("Agg")
README = (Path(__file__).parents[2] / "README.md").read_text()
PLAN, SCRIPT = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("archipel site")
]


def at(site: LocalSite, command: list[str], data: Path) -> str:
    """What a command of the README prints at a hospital whose scans lie elsewhere; people answer yes."""
    patient = sorted((data / "images").iterdir())[0].name.partition(".")[0]
    words = [{"/data/brains": str(data), "sub-07": patient}.get(word, word) for word in command]
    done = CliRunner().invoke(app, words, input="y\n", env={"ARCHIPEL_SITE_STATE": str(site.folder)})
    assert done.exit_code == 0, done.output
    return done.output


def offered(site: LocalSite) -> bool:
    """Whether the experiment and its plan have come."""
    state = site.state()
    try:
        return offers.plan_files(state.blobs, offers.offered(state.database, "hippocampus").job) is not None
    except NotFound:
        return False
    finally:
        state.close()


def test_the_readmes_example_has_thirty_lines_at_most() -> None:
    code = [line for block in (PLAN, SCRIPT) for line in block.splitlines() if line.strip() and line[0] != "#"]
    assert 20 <= len(code) <= 30


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="the Debian package bubblewrap is not installed")
def test_the_readme_holds_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = COMMANDS[:3], COMMANDS[3:]
    assert [words[1:3] for words in after] == [
        ["plans", "hippocampus"],
        ["approve", "hippocampus"],
        ["cohort", "withdraw"],
    ]
    data = {one.name: one for one in phantom.generate(tmp_path / "data", ("north", "south"), subjects_per_site=4)}
    monkeypatch.chdir(tmp_path)
    Path("hippocampus_plan.py").write_text(PLAN)
    script = SCRIPT.replace("rounds=20", "rounds=2")
    assert script != SCRIPT
    failed: list[BaseException] = []
    with LocalFederation.create(tmp_path / "federation") as federation:
        monkeypatch.setenv("ARCHIPEL_TOKEN", federation.token)
        shutil.copy(federation.authority, "ca.pem")
        federation.start_server()
        for name, root in data.items():
            site = federation.join_site(name)
            for command in before:
                at(site, command, root)
        federation.start_sites()

        def research() -> None:
            names: dict[str, Any] = {}
            try:
                exec(compile(script.replace("https://fl.example.org:8443", federation.url), "README.md", "exec"), names)
                names["federation"].close()
            except BaseException as error:
                failed.append(error)

        researcher = threading.Thread(target=research)
        researcher.start()
        try:
            for name, site in federation.sites.items():
                wait_for(lambda site=site: bool(failed) or offered(site), "the offer", site.running.check)
                assert not failed, failed
                asked = at(site, after[0], data[name])
                assert "HippocampusPlan" in asked and "What leaves" in asked
                at(site, after[1], data[name])
        finally:
            researcher.join(200)
        assert not failed, failed
        assert not researcher.is_alive()
        assert "excluded from the next task on" in at(site, after[2], data[name])
    printed = capsys.readouterr().out
    assert "round 2 of 2" in printed
    assert "north alone" in printed and "ensemble" in printed
    assert Path("curves.png").stat().st_size > 10_000
    assert sorted(path.suffix for path in Path("models").iterdir()) == ["", ".md", ".safetensors"]
