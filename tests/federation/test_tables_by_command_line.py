"""The commands of the page on tables, typed as they stand there: real tables of seven hospitals, two models.

What the federation reached must be what the simulation of the same page gives. The server, the sites and the
researcher are processes. A command that does one thing and ends is called within this one, where its libraries are
loaded already: loading them is most of what it takes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from archipel.cli.main import app
from archipel.lab.ports import free_port
from archipel.lab.processes import Running
from archipel.server.membership.federation import ServerContext
from archipel.server.state.folder import ServerState
from archipel.vocabulary import ArchipelError
from real_data import real_data

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[2]
FLOWS = {
    "uci_heart": (("cleveland", "hungarian", "switzerland", "va"), "auc"),
    "ixi_thickness": (("guys", "hh", "iop"), "mae"),
}


class Page:
    """The blocks of docs/tables.md, run in a folder where data and examples lie as the page says."""

    def __init__(self, folder: Path) -> None:
        text = (ROOT / "docs" / "tables.md").read_text()
        self.blocks = dict(re.findall(r"```bash\n# ([^\n]+)\n(.*?)```", text, re.DOTALL))
        self.folder = folder
        self.ports = {"8443": str(free_port()), "8444": str(free_port())}
        self.running: list[Running] = []
        commands = folder / "bin"
        commands.mkdir()
        (commands / "archipel").write_text(f'#!/bin/sh\nexec {sys.executable} -m archipel "$@"\n')
        (commands / "archipel").chmod(0o755)
        self.environment = {
            **os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "NO_COLOR": "1", "COLUMNS": "200",
        }  # fmt: skip
        (folder / "examples").symlink_to(ROOT / "examples")

    def lines(self, block: str, **replaced: str) -> list[str]:
        text = self.blocks[block]
        for old, new in {**self.ports, **replaced, "--rounds 30": "--rounds 3"}.items():
            text = text.replace(old, new)
        return text.strip().splitlines()

    def command(self, line: str) -> Result:
        """One ``archipel`` command, which may get the output of another one: ``archipel ... | archipel ...``."""
        before, _, line = line.rpartition(" | ")
        given = self.done(before) if before else None
        name, *words = shlex.split(line)
        assert name == "archipel", line
        mask = os.umask(0o022)
        try:
            with contextlib.chdir(self.folder):
                result = CliRunner().invoke(app, words, input=given, env=self.environment)
        finally:
            os.umask(mask)
        if not isinstance(result.exception, ArchipelError | SystemExit | None):
            raise result.exception
        return result

    def done(self, line: str) -> str:
        """What a command that must succeed prints."""
        result = self.command(line)
        assert result.exit_code == 0, (line, result.output, result.exception)
        return result.stdout.strip()

    def shell(self, script: str) -> str:
        """What a block prints, run by a shell as it is."""
        done = subprocess.run(
            ["bash", "-ec", script], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    def do(self, block: str, **replaced: str) -> None:
        """Run a block; what it starts runs on beside it."""
        for line in self.lines(block, **replaced):
            if " start " not in line:
                self.done(line)
                continue
            state = self.folder / line.split()[-1]
            words = line.split()[1:-1]
            one = Running([*words, str(state)], self.folder / f"{state.name}.log")
            one.start()
            self.running.append(one)

    def told(self) -> set[str]:
        """The sites whose datasets the server knows."""
        with ServerContext.open(ServerState(self.folder / "fl" / "server")) as federation:
            return {site.site for site in federation.registry.sites() if site.datasets}

    def until(self, true: object, what: str) -> None:
        ends = time.monotonic() + 60
        while not true():  # type: ignore[operator]
            assert time.monotonic() < ends, what
            for one in self.running:
                one.check()
            time.sleep(0.3)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    data = {flow: real_data(flow) for flow in FLOWS}
    found = Page(tmp_path_factory.mktemp("tables"))
    for flow, place in data.items():
        (found.folder / flow).symlink_to(place)
    try:
        found.do("server")
        found.until(lambda: found.command("archipel server status --state fl/server").exit_code == 0, "server")
        yield found
    finally:
        for one in found.running:
            one.stop()


@pytest.mark.parametrize("flow", FLOWS)
def test_the_page_leads_from_raw_files_to_what_its_simulation_says(page: Page, flow: str) -> None:
    hospitals, metric = FLOWS[flow]
    for name in hospitals:
        page.do(f"hospital of {flow}", **{"$HOSPITAL": name})
    # A site that has not yet told of its table is left out of what is created now.
    page.until(lambda: set(hospitals) <= page.told(), f"datasets of {hospitals}")
    with ThreadPoolExecutor(1) as people:
        researcher = people.submit(page.shell, "\n".join(page.lines(f"researcher of {flow}")) + " --json")
        for name in hospitals:
            (line,) = page.lines(f"approval of {flow}", **{"$HOSPITAL": name})
            page.until(lambda line=line: page.command(line).exit_code == 0, line)  # type: ignore[misc]
        (simulation,) = page.lines(f"simulation of {flow}")
        expected = {one["model"]: one for one in json.loads(page.done(f"{simulation} --json"))}
        scores = {one["model"]: one for one in json.loads(researcher.result())}
    models = {"federated", "ensemble", *(f"{name} alone" for name in hospitals)}
    assert scores.keys() == models and expected.keys() == models | {"pooled"}
    for model in models:
        assert scores[model]["per_site"].keys() == set(hospitals)
        assert scores[model]["all_sites"] == pytest.approx(expected[model]["all_sites"], rel=1e-6)
        for name in hospitals:
            assert scores[model]["per_site"][name] == pytest.approx(expected[model]["per_site"][name], rel=1e-6)
    assert expected["pooled"]["per_site"].keys() == set(hospitals)
    assert metric in scores["federated"]["per_site"][hospitals[0]]
