"""The README's example is run: its plan makes a real job, its script goes through the whole REST interface."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from rest_world import World, served

from archipel.transport.messages import DatasetSummary

mpl.use("Agg")
README = Path(__file__).parents[2] / "README.md"
LABELS = {"1": "anterior", "2": "posterior"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with served(tmp_path) as found:
        for site in ("site-a", "site-b", "site-c"):
            data = DatasetSummary(name="hippocampus", kind="volumes", subjects=40, labels=LABELS)
            found.federation.registry.set_datasets(site, [data])
        found.experiments.approve_at_once = True
        yield found


def test_the_readme_example_runs(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, script = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    name = plan.splitlines()[0].removeprefix("# ")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCHIPEL_TOKEN", world.token())
    Path(name).write_text(plan)
    assert world.ca.name == "ca.pem"
    names: dict[str, Any] = {}
    exec(compile(script.replace("https://fl.example.org:8443", world.url), "README.md", "exec"), names)
    names["federation"].close()
    out = capsys.readouterr().out
    assert "hippocampus" in out
    assert "round 20 of 20" in out
    assert "site-b alone" in out
    assert Path("curves.png").stat().st_size > 10_000
    assert sorted(path.suffix for path in Path("models").iterdir()) == [".md", ".safetensors"]
    code = [line for block in (plan, script) for line in block.splitlines() if line.strip() and line[0] != "#"]
    assert len(code) <= 30
