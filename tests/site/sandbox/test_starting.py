"""When a sandbox can be had, when not, what is said about it, and what happens when its agent dies."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import ordinary_user
import pytest

import archipel
from archipel.site.sandbox import Sandbox, WorkerTaskFailed, command, groups, tree, trial
from archipel.site.sandbox.identities import CLAIMS, Identity
from archipel.site.worker.landlock import landlock_version
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode
from worlds.sandbox import World, exists, owner_of

TESTS = Path(__file__).parents[2]


async def cannot() -> None:
    raise ArchipelError("bubblewrap", "is not installed", "install it", code=ErrorCode.SANDBOX)


async def test_without_bubblewrap_nothing_starts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial.shutil, "which", lambda name: None)
    with pytest.raises(ArchipelError, match="bubblewrap: is not installed; install the Debian package") as refused:
        await Sandbox.start(world.spec)
    assert refused.value.code is ErrorCode.SANDBOX
    assert not (world.folder / "hostile.log").exists()


@pytest.mark.processes
async def test_a_bubblewrap_that_cannot_work_is_a_clear_refusal(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(trial.shutil, "which", lambda name: str(broken))
    with pytest.raises(ArchipelError, match=r"uid map: Permission denied.*user namespaces") as refused:
        await Sandbox.start(world.spec)
    assert refused.value.code is ErrorCode.SANDBOX


@pytest.mark.processes
def test_a_bubblewrap_that_is_no_program_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bwrap"
    broken.write_bytes(b"\x7fELF of another machine")
    broken.chmod(0o755)
    monkeypatch.setattr(trial.shutil, "which", lambda name: str(broken))
    assert "bubblewrap: could not be started (Exec format error); install" in str(trial.sandbox_problem())


@pytest.mark.processes
@pytest.mark.parametrize("times", [1, 99])
async def test_a_trial_that_is_killed_is_made_again_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    made = tmp_path / "made"
    broken = tmp_path / "bwrap"
    broken.write_text(f"#!/bin/sh\necho trial >> {made}; [ $(wc -l < {made}) -gt {times} ] || kill -9 $$\n")
    broken.chmod(0o755)
    monkeypatch.setattr(trial.shutil, "which", lambda name: str(broken))
    if times == 1:
        await trial.check()
    else:
        with pytest.raises(ArchipelError, match="each trial was killed, exit status -9") as refused:
            await trial.check()
        assert refused.value.code is ErrorCode.SANDBOX
    assert made.read_text().count("trial") == (2 if times == 1 else 3)


@pytest.mark.processes
async def test_a_trial_that_is_killed_while_it_begins_leaves_nothing_that_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, left = tmp_path / "made", tmp_path / "left"
    broken = tmp_path / "bwrap"
    broken.write_text(f"#!/bin/sh\n[ -e {made} ] && exit 0; touch {made}; sleep 60 & echo $! > {left}; kill -9 $$\n")
    broken.chmod(0o755)
    monkeypatch.setattr(trial.shutil, "which", lambda name: str(broken))
    await asyncio.wait_for(trial.check(), 30)
    for _ in range(500):
        if tree.has_ended(int(left.read_text())):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("what the trial left behind still runs")


def others_may_read(path: str) -> bool:
    """Whether a user who owns nothing here gets this far."""
    ids = {"user": ordinary_user.UID, "group": ordinary_user.UID, "extra_groups": []}
    return subprocess.run(["/usr/bin/test", "-r", path], check=False, **ids).returncode == 0


@pytest.mark.processes
async def test_where_the_workers_uid_cannot_read_the_program_it_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if os.getuid() != 0:
        pytest.skip("only an agent that runs as root gives workers another uid")
    monkeypatch.setattr(trial, "check", cannot)
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(command.sys, "executable", str(tmp_path / "home" / "python"))
    with pytest.raises(ArchipelError, match="home/python: cannot be read by the worker") as refused:
        await Sandbox.start(replace(world.spec, mode="none-i-accept-the-risk"))
    assert refused.value.code is ErrorCode.SANDBOX
    assert not list(world.spec.state_folder.glob("stage-*"))


@pytest.mark.processes
async def test_an_owner_who_accepts_the_risk_goes_without_and_it_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "check", cannot)
    world.folder.chmod(0o700)
    spec = replace(world.spec, mode="none-i-accept-the-risk")
    if os.getuid() == 0 and not (others_may_read(sys.executable) and others_may_read(archipel.__file__)):
        with pytest.raises(
            ArchipelError, match=r"cannot be read by the worker.*install Python and archipel where every user"
        ):
            await Sandbox.start(spec)
        return
    worker = await Sandbox.start(spec)
    try:
        await worker.prepare()
        assert "NONE, by the owner's configuration" in worker.description
        await world.run(worker, "")
        if os.getuid() == 0:
            assert owner_of(worker.main) != 0
            keys = await world.fails(worker, f"open({str(world.folder / 'site' / 'identity.key')!r})")
            assert "PermissionError" in keys.detail
    finally:
        await worker.kill()


@pytest.mark.processes
async def test_accepting_the_risk_changes_nothing_where_there_is_a_sandbox(world: World) -> None:
    worker = await Sandbox.start(replace(world.spec, mode="none-i-accept-the-risk"))
    await worker.kill()
    assert worker.description.startswith("sandbox: bubblewrap")


@pytest.mark.processes
@pytest.mark.parametrize("kept", [True, False])
async def test_the_journal_is_told_who_keeps_which_limit(
    world: World, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    if not kept:
        monkeypatch.setattr(groups, "make", lambda *_: None)
    worker = await Sandbox.start(world.spec)
    by_kernel = any("memory" in folder.parts or (folder / "memory.max").exists() for folder in worker.group_folders)
    await worker.kill()
    expected = "memory limited by the kernel" if by_kernel else "memory watched by the agent"
    assert expected in worker.description
    assert "no network" in worker.description and "frozen between tasks" in worker.description


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["required", "none-i-accept-the-risk"])
async def test_state_beside_what_is_shown_is_refused_in_any_mode(world: World, mode: str) -> None:
    inside = Path(sys.prefix) / "lib"
    with pytest.raises(BadInput, match="contains the site's own state folder") as refused:
        await Sandbox.start(replace(world.spec, state_folder=inside, mode=mode))
    assert refused.value.code is ErrorCode.SANDBOX


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["required", "none-i-accept-the-risk"])
async def test_a_plan_file_that_is_not_the_approved_one_never_runs(world: World, mode: str) -> None:
    with world.spec.open_file("") as path, path.open("a") as plan:
        plan.write("\n# one more line\n")
    with pytest.raises(ArchipelError, match=r"is not the approved text: its hash is blake3:.*remove it") as refused:
        await Sandbox.start(replace(world.spec, mode=mode))
    assert refused.value.code is ErrorCode.TRUST
    assert not list(world.spec.state_folder.glob("stage-*"))


@pytest.mark.processes
async def test_what_failed_to_start_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "worker_arguments", lambda *_: ["/bin/sh", "-c", "echo no python here; exit 3"])
    with pytest.raises(WorkerTaskFailed) as failed:
        await Sandbox.start(world.spec)
    assert "exit status 3: no python here" in failed.value.detail
    assert not list(world.spec.state_folder.glob("stage-*"))


@pytest.mark.processes
async def test_each_worker_on_a_machine_has_a_uid_of_its_own_whoever_started_it(world: World) -> None:
    if os.getuid() != 0:
        pytest.skip("only an agent that runs as root gives workers another uid")
    code = (
        "import sys; from archipel.site.sandbox.identities import Identity\n"
        "one = Identity.claim(int(sys.argv[1])); print(one.uid, flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", code, "731000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        taken = int(await asyncio.to_thread(other.stdout.readline))
        worker = await Sandbox.start(replace(world.spec, uid_base=taken))
        await worker.kill()
        assert f"its own uid {taken}," not in worker.description
    finally:
        other.kill()
        other.communicate()


@pytest.mark.skipif(os.getuid() != 0, reason="only an agent that runs as root gives workers another uid")
def test_no_other_user_can_claim_the_uids_of_workers() -> None:
    one = Identity.claim(731_900)
    try:
        assert one.uid is not None
        done = subprocess.run(
            ["/bin/sh", "-c", f": > {CLAIMS}/{one.uid + 1}"], user=65534, group=65534, extra_groups=[],
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0 and b"denied" in done.stderr
    finally:
        one.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only an agent that runs as root gives workers another uid")
def test_where_no_claim_can_be_held_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchipelError, match=r"cannot store the claims.*Not a directory.*let the agent write there"):
        Identity.claim(731_900, tmp_path / "file" / "uids")


AGENT = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from worlds.sandbox import World
from archipel.site.sandbox import Sandbox, tree

LOOK = '''
import os
others = [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
touched = []
for name in others:
    try:
        os.close(os.open("/proc/" + name + "/mem", os.O_RDWR))
        touched.append(name)
    except OSError:
        pass
signalled = []
for name in others:
    try:
        os.kill(int(name), 0)
        signalled.append(name)
    except OSError:
        pass
said = (os.getuid(), len(others), touched, os.listdir("/"), signalled)
'''

async def agent():
    world = World.make(Path(sys.argv[1]))
    worker = await Sandbox.start(world.spec)
    await worker.prepare()
    said = await world.say(worker, LOOK)
    await world.run(worker, "import os, time\\nif os.fork() == 0: time.sleep(60)" if "stray" in sys.argv else "")
    print(worker.pid, worker.main, said[0], worker.description, flush=True)
    if "busy" in sys.argv:
        await world.run(worker, "while True: pass")
    if "stop" in sys.argv:
        inside = tree.descendants(worker.pid)[1:]
        states = [tree.state_of(pid) for pid in inside]
        await worker.kill()
        print("secret" if "identity.key" in str(said[3]) else "hidden", said[1], said[2], *states, flush=True)
        print(*said[4], flush=True)
        return
    await asyncio.sleep(60)

asyncio.run(agent())
"""


@pytest.mark.processes
@pytest.mark.parametrize("what", ["idle", "busy"])
def test_no_worker_outlives_its_agent(tmp_path: Path, what: str) -> None:
    tmp_path.chmod(0o755)
    agent = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(tmp_path), str(TESTS), what], stdout=subprocess.PIPE, text=True
    )
    assert agent.stdout is not None
    pid, main = map(int, agent.stdout.readline().split()[:2])
    assert exists(pid) and exists(main)
    agent.send_signal(signal.SIGKILL)
    agent.communicate()
    until = time.monotonic() + 10
    while (exists(pid) or exists(main)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not exists(pid) and not exists(main)


@pytest.mark.processes
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become an ordinary user; the other tests run as one then")
def test_an_agent_of_an_ordinary_user_has_a_sandbox_too(tmp_path: Path) -> None:
    package = Path(archipel.__file__)
    closed = [path for path in (Path(sys.executable), package, TESTS) if not path.stat().st_mode & stat.S_IROTH]
    if closed:
        pytest.skip(f"checked out or installed for its owner alone: others may not read {closed[0]}")
    folder = tmp_path / "world"
    folder.mkdir()
    os.chown(folder, ordinary_user.UID, ordinary_user.UID)
    needed = [Path(sys.base_prefix), Path(sys.prefix), package.parents[1], TESTS, folder]
    agent = [sys.executable, "-c", AGENT, str(folder), str(TESTS), "stop"]
    done = subprocess.run(ordinary_user.become(needed, agent), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    first, second, signalled = done.stdout.splitlines()
    assert first.split()[2] == str(ordinary_user.UID)
    assert "a user namespace of its own" in first and "memory watched by the agent" in first
    # Process 1, the inner bubblewrap and the worker: all frozen.
    assert second == "hidden 2 [] T T T"
    if landlock_version() >= 6:
        assert signalled == ""
