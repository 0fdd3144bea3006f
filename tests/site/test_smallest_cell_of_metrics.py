"""The smallest cell of a site's own policy decides what its agent lets leave of a metric."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from archipel.site.agent import tasks_under_way
from archipel.site.state.folder import StateFolder
from archipel.site.state.settings import SiteSettings
from worlds.site import job_for


@pytest.mark.parametrize("cell", [1, 5, 12])
def test_the_agent_computes_with_the_smallest_cell_of_its_policy(
    hospital: StateFolder, monkeypatch: pytest.MonkeyPatch, cell: int
) -> None:
    made: list[Any] = []
    whole = tasks_under_way.Compute

    def compute(*given: Any, **more: Any) -> Any:
        made.append(whole(*given, **more))
        return made[-1]

    monkeypatch.setattr(tasks_under_way, "Compute", compute)
    monkeypatch.setattr(tasks_under_way, "SandboxTrainer", lambda *_: None)
    hospital.settings = SiteSettings.model_validate({"site": hospital.name, "policy": {"minimum_cell": cell}})
    agent: Any = SimpleNamespace(
        _site=hospital, _store=None, _room=None, _link=SimpleNamespace(fetch_into=None), _gpus=None
    )
    tasks_under_way.TasksUnderWay._new_work(agent, job_for(hospital), "sha256:" + "0" * 64)
    assert [one._minimum_cell for one in made] == [cell]
