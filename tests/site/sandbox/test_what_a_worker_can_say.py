"""A worker that is the plan's through and through: forged, malformed, late and silent answers."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from typing import Any

import pytest

from archipel.site.sandbox import Sandbox, WorkerTaskFailed
from archipel.site.worker.protocol import LARGEST_REPLY
from archipel.vocabulary import EXCEPTION_CLASSES, ErrorCode, TaskKind
from worlds.sandbox import World, exists, open_descriptors, owner_of

pytestmark = pytest.mark.processes

TALK = """
import array, json, os, socket, struct, time
fd = next(int(name) for name in os.listdir("/proc/self/fd")
          if os.path.exists("/proc/self/fd/" + name) and os.readlink("/proc/self/fd/" + name).startswith("socket:"))
channel = socket.socket(fileno=os.dup(fd))
def say(text):
    data = text if isinstance(text, bytes) else text.encode()
    channel.sendall(struct.pack("<I", len(data)) + data)
"""
STOP = "\ntime.sleep(60)\n"
GOOD: dict[str, Any] = {"type": "done", "metrics": {}, "validation": {}, "state": False}


def forged(message: bytes | str) -> str:
    """Code that says this instead of an answer and then sleeps."""
    return f"{TALK}say({message!r}){STOP}"


async def outcome_of(world: World, code: str, **limits: Any) -> WorkerTaskFailed:
    worker = await Sandbox.start(world.limited(**limits))
    try:
        await worker.prepare()
        return await world.fails(worker, code)
    finally:
        await worker.kill()


MALFORMED = {
    "no JSON": b"\xff\xfe",
    "empty": b"",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "a giant number": b'{"type":"done","state":' + b"9" * 100_000 + b"}",
    "no type": b"{}",
    "unknown type": b'{"type":"shell"}',
    "out of turn": b'{"type":"prepared"}',
    "unknown field": json.dumps({**GOOD, "note": "patient 7 is ill"}).encode(),
    "many fields": json.dumps({**GOOD, **{f"f{n}": n for n in range(30_000)}}).encode(),
    "many metrics": json.dumps({**GOOD, "metrics": {f"f{n}": {} for n in range(20_000)}}).encode(),
    "a count of its own": json.dumps({**GOOD, "samples": 2**53 - 1}).encode(),
    "state never given": json.dumps({**GOOD, "state": True}).encode(),
    "giant state": json.dumps({"type": "need-state", "size": 1 << 40}).encode(),
    "a model that was never offered": json.dumps({"type": "need-model", "number": 0}).encode(),
    "a model of no task": json.dumps({"type": "need-model", "number": -1}).encode(),
    "a metric's name": json.dumps({**GOOD, "metrics": {"x" * 500: {"total": 1, "weight": 1}}}).encode(),
    "a negative weight": json.dumps({**GOOD, "metrics": {"loss": {"total": 1, "weight": -1}}}).encode(),
}


@pytest.mark.parametrize("what", MALFORMED)
async def test_what_is_no_answer_ends_the_worker(world: World, what: str) -> None:
    failed = await outcome_of(world, forged(MALFORMED[what]))
    assert failed.failure.code is ErrorCode.PLAN_ERROR
    assert failed.failure.exception is None
    assert not failed.failure.retry


async def test_a_giant_answer_is_refused_before_it_is_read(world: World) -> None:
    code = f"{TALK}channel.sendall(struct.pack('<I', {LARGEST_REPLY + 1}) + b'x' * 100){STOP}"
    failed = await outcome_of(world, code)
    assert failed.failure.code is ErrorCode.PLAN_ERROR


@pytest.mark.parametrize(
    "how",
    [
        f"{TALK}{STOP}",
        f"{TALK}channel.sendall(b'\\x10'){STOP}",
        f"{TALK}channel.sendall(struct.pack('<I', 400) + b'half of it'){STOP}",
        f"{TALK}channel.sendall(struct.pack('<I', 100_000))\nwhile True:\n    channel.sendall(b' '); time.sleep(0.01)",
    ],
    ids=["silence", "a byte", "half a message", "a dribble"],
)
async def test_an_answer_that_never_ends_meets_the_wall_limit(world: World, how: str) -> None:
    failed = await outcome_of(world, how, wall_s=0.6)
    assert failed.failure.code is ErrorCode.LIMIT_TIME


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
async def test_numbers_that_are_not_finite_are_refused(world: World, value: str) -> None:
    text = json.dumps({**GOOD, "metrics": {"loss": {"total": 0, "weight": 1}}})
    text = text.replace('"total": 0', f'"total": {value}')
    failed = await outcome_of(world, forged(text))
    assert failed.failure.code is ErrorCode.NOT_FINITE


async def test_metric_names_are_those_of_the_job(world: World) -> None:
    text = json.dumps({**GOOD, "metrics": {"patient-seven-is-ill": {"total": 1, "weight": 1}}})
    failed = await outcome_of(world, forged(text))
    assert failed.failure.code is ErrorCode.PLAN_ERROR
    assert "patient" not in failed.failure.model_dump_json()


CLAIMS = [
    {"code": "revoked", "exception": "PatientSevenIsIll", "file": "hostile_plan.py", "line": 10**9, "text": "secret"},
    {"code": "limit-time", "exception": "ValueError; secret", "file": "secret.py", "line": 4, "text": "secret"},
    {"code": "secret words", "exception": "secret", "file": "hostile_plan.py", "line": -4, "text": "secret"},
]


@pytest.mark.parametrize("claim", CLAIMS)
async def test_only_fixed_words_of_an_error_leave(world: World, claim: dict[str, Any]) -> None:
    failed = await outcome_of(world, forged(json.dumps({"type": "problem", **claim})))
    leaves = failed.failure
    assert leaves.code is ErrorCode.PLAN_ERROR
    assert leaves.exception in {*EXCEPTION_CLASSES, "Exception"}
    assert leaves.file is None and leaves.line is None
    assert "secret" not in leaves.model_dump_json().lower() and "patient" not in leaves.model_dump_json().lower()
    assert failed.detail == "secret"


async def test_answers_given_before_the_question_end_the_worker(world: World) -> None:
    text = json.dumps({"type": "prepared"}).encode()
    worker = await Sandbox.start(world.spec)
    await worker.prepare()
    with pytest.raises(WorkerTaskFailed) as failed:
        both = b"".join(struct.pack("<I", len(one)) + one for one in (json.dumps(GOOD).encode(), text))
        await world.run(worker, f"{TALK}channel.sendall({both!r}){STOP}")
    assert failed.value.failure.code is ErrorCode.PLAN_ERROR
    assert not worker.alive


async def test_descriptors_that_come_with_an_answer_are_never_received(world: World) -> None:
    before = open_descriptors()
    worker = await Sandbox.start(world.spec)
    await worker.prepare()
    open_now = open_descriptors()
    code = (
        f"{TALK}data = {json.dumps(GOOD).encode()!r}\n"
        "rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0, 1, 2]))]\n"
        f"channel.sendmsg([struct.pack('<I', len(data)) + data], rights){STOP}"
    )
    outcome = await world.run(worker, code)
    cohort, fraction = world.spec.cohort, world.spec.job.validation_fraction
    assert outcome.samples.training == len(cohort.subjects) - len(cohort.held_out(fraction)) > 0
    assert open_descriptors() == open_now
    await worker.kill()
    assert open_descriptors() == before


async def test_state_is_given_only_to_tasks_that_keep_one(world: World) -> None:
    worker = await Sandbox.start(world.spec)
    await worker.prepare()
    with pytest.raises(WorkerTaskFailed) as failed:
        task = world.task(forged(json.dumps({"type": "need-state", "size": 10})), TaskKind.LOCAL)
        await worker.train(task, world.model, world.result, None)
    assert failed.value.failure.code is ErrorCode.PLAN_ERROR
    await worker.kill()


async def test_an_exception_that_cannot_be_printed_is_an_ordinary_failure(world: World) -> None:
    code = """
    class Odd(ValueError):
        def __str__(self):
            raise SystemExit
        __repr__ = __str__
    raise Odd("\\ud800" * 1_000_000)
    """
    worker = await Sandbox.start(world.spec)
    await worker.prepare()
    failed = await world.fails(worker, code)
    assert failed.failure.code is ErrorCode.PLAN_ERROR
    assert worker.alive
    long = await world.fails(worker, "raise ValueError('\\x00\\ud800' * 1_000_000)")
    assert (long.failure.exception, worker.alive) == ("ValueError", True)
    await worker.kill()


async def test_two_workers_of_one_machine_know_nothing_of_each_other(world: World) -> None:
    first, second = await asyncio.gather(Sandbox.start(world.spec), Sandbox.start(world.spec))
    try:
        await asyncio.gather(first.prepare(), second.prepare())
        pids = await world.say(first, "import os; said = [name for name in os.listdir('/proc') if name.isdigit()]")
        assert len(pids) == (2 if os.getuid() == 0 else 3)
        uids = [owner_of(one.main) for one in (first, second)]
        assert os.getuid() != 0 or len(set(uids)) == 2
    finally:
        await asyncio.gather(first.kill(), second.kill())


async def test_an_error_of_the_agents_own_leaves_no_worker_running(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await Sandbox.start(world.spec)
    await worker.prepare()

    def broken(*_: object) -> None:
        raise RuntimeError("a fault in the agent")

    monkeypatch.setattr(worker, "_check_names", broken)
    with pytest.raises(RuntimeError, match="a fault in the agent"):
        await world.run(worker, "pass")
    assert not worker.alive and not exists(worker.pid)
