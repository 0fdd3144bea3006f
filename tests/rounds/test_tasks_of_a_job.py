"""A site takes on every task that the loop makes of a job, and no task that it never would."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scripted_fleet import Scene, job

from archipel.governance import job_hash
from archipel.rounds import ExperimentState
from archipel.tasks import check_task_of_job
from archipel.vocabulary import ArchipelError, Job, Task, TaskKind
from worlds.examples import examples

SITES = ("a", "b", "c")


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    local = draw(st.booleans())
    return job(
        SITES[: draw(st.integers(1, 3))],
        terms={"rounds": draw(st.integers(1, 3)), "quorum": 1},
        baselines={"local": local, "ensemble": local and draw(st.booleans())},
        **({} if draw(st.booleans()) else {"validation": []}),
    )


async def every_task(folder: Path, job_: Job, failing: frozenset[str]) -> list[Task]:
    """What the real loop asks of sites; those that fail do so at their first attempt of each stage of training."""
    scene = Scene(folder, job_)
    scene.start()
    made: list[Task] = []
    while True:

        def reached() -> object:
            opened = scene.store.progress().opened
            over = scene.running is not None and scene.running.done()
            if not over and opened is None:
                scene.pass_time(1)
            return over or (opened and opened.task not in made)

        await scene.until(reached)
        opened = scene.store.progress().opened
        if opened is None:
            break
        made.append(opened.task)
        for number, site in enumerate(job_.sites):
            if site in failing and number and opened.task.key.kind is not TaskKind.EVALUATE:
                scene.fail(site, opened.task)
            elif opened.task.key.kind is TaskKind.EVALUATE:
                await scene.evaluate(site, opened.task)
            else:
                await scene.deliver(site, opened.task, number)
        scene.store.arguments["rate"] = 0.25
    assert await scene.ended() is ExperimentState.FINISHED
    return made


def mutations(job_: Job, task: Task) -> Iterator[dict[str, Any]]:
    """Changes of a task, each of which the job does not ask for."""
    plain = task.model_dump(mode="json")
    key, passes, models = plain["key"], plain["passes"], plain["models"]
    for number in (-1, 0, job_.terms.rounds + 1, 10**9, 2**53, 10**400):
        yield {"key": {**key, "round": number}}
        yield {"key": {**key, "round": number}, "passes": [{**passes[0], "round": number}]}
    for attempt in (0, job_.terms.attempts + 1, 10**9, 2**53):
        yield {"key": {**key, "attempt": attempt}}
    for about in ("nobody", "a b", "A", "x" * 64):
        yield {"key": {**key, "about": about}}
    if task.key.kind is not TaskKind.EVALUATE:
        yield {"key": {**key, "about": "a"}}
        yield {"key": {**key, "about": "ensemble"}}
    if task.key.kind is TaskKind.LOCAL or (task.key.kind is TaskKind.TRAIN and task.key.round == 1):
        yield {"models": ["blake3:" + "1" * 64]}
    if not job_.baselines.local:
        whole = [{**passes[0], "round": number} for number in range(1, job_.terms.rounds + 1)]
        at = {**key, "round": job_.terms.rounds}
        yield {"key": {**at, "kind": "local", "about": ""}, "models": [job_.initial_model], "passes": whole}
        yield {"key": {**at, "kind": "evaluate", "about": "a"}}
    if not job_.baselines.ensemble:
        yield {"key": {**key, "kind": "evaluate", "about": "ensemble"}}
    if not job_.validation:
        yield {"key": {**key, "kind": "evaluate", "about": ""}, "passes": [{**passes[0], "round": key["round"]}]}
    yield {"passes": []}
    yield {"passes": passes * 1000}
    yield {"passes": [*passes, passes[-1]]}
    yield {"passes": [{**passes[0], "round": passes[0]["round"] + 1}, *passes[1:]]}
    yield {"passes": [{**passes[0], "arguments": {"rate": 1.5}}, *passes[1:]]}
    yield {"passes": [{**passes[0], "arguments": {"speed": 0.5}}, *passes[1:]]}
    if len(passes) > 1:
        yield {"passes": passes[::-1]}
        yield {"passes": passes[1:]}
    yield {"models": models * 5000}
    yield {"models": [*models, *["blake3:" + "2" * 64] * len(job_.sites)]}
    yield {"models": []}
    yield {"job_hash": "sha256:" + "0" * 64}
    yield {"key": {**key, "experiment": "another"}}


@examples(25)
@given(jobs(), st.frozensets(st.sampled_from(SITES)))
def test_every_task_of_the_loop_is_taken_on_and_no_change_of_one(job_: Job, failing: frozenset[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = asyncio.run(every_task(Path(folder), job_, failing))
    assert {task.key.kind for task in made} >= {TaskKind.TRAIN}
    digest = job_hash(job_)
    for task in made:
        check_task_of_job(job_, digest, task)
        for change in mutations(job_, task):
            with pytest.raises((ArchipelError, ValidationError)):
                check_task_of_job(job_, digest, Task.model_validate({**task.model_dump(mode="json"), **change}))
                pytest.fail(f"{task.key} was taken on with {change}")
