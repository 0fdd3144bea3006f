"""Files, network, other processes and kernel interfaces, tried from inside by a plan that wants them."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from archipel.site.sandbox import SandboxedWorker, command
from worlds.sandbox import World

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

REACH = """
    import os
    said = []
    for path in {paths!r}:
        try:
            said.append((path, os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(40)))
        except OSError as error:
            said.append((path, error.errno))
"""


async def errors(world: World, worker: SandboxedWorker, code: str) -> dict[str, object]:
    """Runs the lines of ``code``; what each raised, or what it gave."""
    lines = [line.strip() for line in code.strip().splitlines()]
    return await world.say(
        worker,
        "import os, socket, ctypes, fcntl, mmap, resource, signal\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def call(number, *values):\n"
        "    ctypes.set_errno(0)\n"
        "    back = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(one) for one in values])\n"
        "    return back if back >= 0 else os.strerror(ctypes.get_errno())\n"
        "said = {}\n"
        f"for line in {lines!r}:\n"
        "    try:\n"
        "        said[line] = eval(line) and 'DONE' if not line.startswith('call') else eval(line)\n"
        "    except OSError as error:\n"
        "        said[line] = os.strerror(error.errno)\n",
    )


async def test_no_secret_file_is_there(shared_world: World, shared_worker: SandboxedWorker) -> None:
    state, root = shared_world.spec.state_folder, shared_world.root
    paths = [
        str(state / "identity.key"), str(state), str(root), str(root / "withdrawn.npz"),
        str(shared_world.folder / "other-dataset"), "/data/withdrawn.npz", "/data/../data/withdrawn.npz",
        "/data/table.npz",
        "/proc/self/root" + str(state / "identity.key"), "/proc/1/root" + str(state / "identity.key"),
        "/proc/1/cwd", "/proc/1/environ", "/proc/1/mem", "/etc/shadow", "/etc/passwd", "/etc/ssh", "/etc/machine-id",
        "/home", "/var", "/run", "/sys", "/sys/fs/cgroup", "/proc/kcore", "/dev/mem", "/dev/kmsg", "/dev/vda",
        "/dev/mqueue",
    ]  # fmt: skip
    said = await shared_world.say(shared_worker, REACH.format(paths=paths))
    found = {path: names for path, names in said if not isinstance(names, int)}
    # The checkout or interpreter may lie in a home; then the names on the way to it are there, and nothing beside them.
    assert {path: names for path, names in found.items() if not only_the_way_to_the_code(path, names)} == {}


def only_the_way_to_the_code(folder: str, names: list[str] | bytes) -> bool:
    ways = {str(above) for code in command.visible_code() for above in (code, *code.parents)}
    return isinstance(names, list) and len(names) > 0 and all(f"{folder}/{name}" in ways for name in names)


async def test_exactly_the_cohort_is_there(shared_world: World, shared_worker: SandboxedWorker) -> None:
    said = await shared_world.say(
        shared_worker,
        """
        import os
        said = [os.path.join(folder, name) for folder, _, names in os.walk("/data") for name in names]
        """,
    )
    assert isinstance(said, list) and sorted(said) == ["/data/cohort", "/data/rows.prepared"]


async def test_only_the_sized_temporary_folders_can_be_written(
    shared_world: World, shared_worker: SandboxedWorker
) -> None:
    said = await shared_world.say(
        shared_worker,
        """
        import os
        said = []
        for line in open("/proc/self/mountinfo"):
            place, options, kind = line.split()[4], line.split()[5].split(","), line.partition(" - ")[2].split()
            path = os.path.join(place, "probe") if os.path.isdir(place) else place
            try:
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
                said.append((place, kind[0], "size=16384k" in kind[2]))
            except OSError:
                pass
        """,
    )
    devices = [one for one in said if one[0].startswith("/dev/") and one[1] == "devtmpfs"]
    assert {place for place, _, _ in devices} <= {
        "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom",
    }  # fmt: skip
    assert [one for one in said if one not in devices] == [("/dev/shm", "tmpfs", True), ("/tmp", "tmpfs", True)]


async def test_a_disk_is_not_filled(shared_world: World, shared_worker: SandboxedWorker) -> None:
    said = await shared_world.say(
        shared_worker,
        """
        import os
        said = {}
        for folder in ("/tmp", "/dev/shm"):
            written, number = 0, 0
            try:
                while written < 1 << 30:
                    number += 1
                    with open(f"{folder}/fill{number}", "wb", buffering=0) as file:
                        for _ in range(4):
                            written += file.write(bytes(1 << 20))
            except OSError as error:
                said[folder] = (written >> 20, error.errno)
            for one in range(1, number + 1):
                os.unlink(f"{folder}/fill{one}")
        """,
    )
    assert said == {"/tmp": (16, 28), "/dev/shm": (16, 28)}


async def test_no_socket_leads_anywhere(shared_world: World, shared_worker: SandboxedWorker) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0archipel-test-{os.getpid()}")
        listener.listen()
        said = await errors(
            shared_world,
            shared_worker,
            f"""
            socket.socket(socket.AF_INET)
            socket.socket(socket.AF_INET6)
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            socket.socket(socket.AF_VSOCK)
            socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)
            socket.socket(socket.AF_UNIX).connect("\\0archipel-test-{os.getpid()}")
            """,
        )
    refused = list(said.values())
    assert refused[:-1] == ["Operation not permitted"] * 7
    assert refused[-1] == "Connection refused"


async def test_only_loopback_exists(shared_world: World, shared_worker: SandboxedWorker) -> None:
    said = await shared_world.say(shared_worker, 'said = open("/proc/net/dev").read().count(":")')
    assert said == 1


async def test_dangerous_system_calls_are_refused(shared_world: World, shared_worker: SandboxedWorker) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers below are those of x86_64")
    newuser, newnet = 0x10000000, 0x40000000
    said = await errors(
        shared_world,
        shared_worker,
        f"""
        call(56, {newuser | 17}, 0, 0, 0, 0)
        call(56, {newnet | 17}, 0, 0, 0, 0)
        call(272, {newuser})
        call(308, 0, 0)
        call(101, 0, 1, 0, 0)
        call(310, 1, 0, 0, 0, 0, 0)
        call(311, 1, 0, 0, 0, 0, 0)
        call(438, 0, 0, 0)
        call(165, 0, 0, 0, 0, 0)
        call(166, 0, 0)
        call(155, 0, 0)
        call(161, 0)
        call(321, 0, 0, 0)
        call(298, 0, 0, 0, 0, 0)
        call(323, 0)
        call(425, 1, 0)
        call(250, 0, 0, 0, 0, 0)
        call(29, 0, 1048576, 0o1600)
        call(68, 0, 0o1600)
        call(240, 0, 0, 0, 0)
        call(206, 1000, 0)
        call(304, 0, 0, 0)
        call(16, 0, 0x5412, 0)
        """,
    )
    assert set(said.values()) == {"Operation not permitted"}, said
    absent = await errors(shared_world, shared_worker, "call(435, 0, 0)\ncall(319, 0, 0)\ncall(447, 0)")
    assert set(absent.values()) == {"Function not implemented"}, absent


async def identity(world: World, worker: SandboxedWorker) -> dict[str, str]:
    """Lines of the worker's own status: capabilities, filter, uids and groups."""
    return await world.say(
        worker,
        """
        said = dict(line.split(":", 1) for line in open("/proc/self/status"))
        said = {name: " ".join(said[name].split()) for name in (
            "CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups")}
        """,
    )


async def test_no_privilege_is_left(shared_world: World, shared_worker: SandboxedWorker) -> None:
    said = await identity(shared_world, shared_worker)
    assert {name: value for name, value in said.items() if name.startswith("Cap")} == dict.fromkeys(
        ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"), "0" * 16
    )
    assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2")
    assert "0" not in (said["Uid"] + " " + said["Gid"] + " " + said["Groups"]).split()


async def test_no_group_is_left_but_an_ordinary_users_own(shared_world: World, shared_worker: SandboxedWorker) -> None:
    said = await identity(shared_world, shared_worker)
    if os.getuid() == 0:
        assert said["Groups"] == ""
    else:
        # Nobody but root may lay groups down. Those that are not mapped have no name and no number inside.
        assert set(said["Groups"].split()) <= {str(os.getgid()), "65534"}
        assert set(said["Uid"].split()) == {str(os.getuid())}
        assert set(said["Gid"].split()) == {str(os.getgid())}


async def test_no_other_process_of_the_sandbox_can_be_read_or_written(
    shared_world: World, shared_worker: SandboxedWorker
) -> None:
    said = await shared_world.say(
        shared_worker,
        """
        import os
        said = {}
        for pid in (name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()):
            for what in ("mem", "environ", "cwd", "root"):
                try:
                    os.close(os.open(f"/proc/{pid}/{what}", os.O_RDWR if what == "mem" else os.O_RDONLY))
                    said[pid, what] = 0
                except OSError as error:
                    said[pid, what] = error.errno
        """,
    )
    assert ("1", "mem") in said
    assert set(said.values()) <= {errno.EACCES, errno.EPERM}, said


async def test_only_its_own_processes_can_be_seen_and_signalled(
    shared_world: World, shared_worker: SandboxedWorker
) -> None:
    said = await shared_world.say(
        shared_worker,
        f"""
        import os
        seen = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        try:
            os.kill({os.getpid()}, 0)
            reached = True
        except ProcessLookupError:
            reached = {os.getpid()} in seen
        said = (len(seen), reached)
        """,
    )
    # Process 1 and the worker; where agent and worker share a uid, the inner bubblewrap too.
    assert said == (2 if os.getuid() == 0 else 3, False)


async def test_the_inherited_descriptors_are_the_socket_and_the_output(
    shared_world: World, shared_worker: SandboxedWorker
) -> None:
    said = await shared_world.say(
        shared_worker,
        """
        import os
        said = []
        for name in os.listdir("/proc/self/fd"):
            try:
                said.append(os.readlink("/proc/self/fd/" + name))
            except OSError:
                pass
        """,
    )
    # Each of the two tensor files of the task: as it came, and as the mapping keeps it.
    assert sum(one.startswith("socket:") for one in said) == 1
    assert sum(one.startswith("pipe:") for one in said) == 2
    assert sum(one.startswith("/memfd:archipel") for one in said) == 4
    assert len(said) <= 8 and "/dev/null" in said


async def test_nothing_of_the_agents_environment_comes_in(shared_world: World, shared_worker: SandboxedWorker) -> None:
    said = await shared_world.say(
        shared_worker, 'import os, sys; said = (sorted(os.environ), sys.flags.isolated, "" in sys.path)'
    )
    assert not any(name.startswith(("PYTHON", "AWS", "SSH", "XDG")) for name in said[0])
    assert said[1:] == (1, False)


async def test_no_folder_that_python_imports_from_can_be_written(
    shared_world: World, shared_worker: SandboxedWorker
) -> None:
    said = await shared_world.say(
        shared_worker, "import os, sys; said = [path for path in sys.path if os.access(path or '.', os.W_OK)]"
    )
    assert said == []


async def test_the_model_is_sealed_and_the_result_keeps_its_size(
    shared_world: World, shared_worker: SandboxedWorker
) -> None:
    said = await shared_world.say(
        shared_worker,
        """
        import fcntl, mmap, os
        tensor_files = sorted(
            (int(name) for name in os.listdir("/proc/self/fd")
             if os.path.exists("/proc/self/fd/" + name)
             and os.readlink("/proc/self/fd/" + name).startswith("/memfd")))
        said = []
        for fd in tensor_files[:2]:
            tried = []
            for attack in (
                lambda: os.ftruncate(fd, 1), lambda: os.ftruncate(fd, 1 << 20), lambda: os.pwrite(fd, b"x", 0),
                lambda: mmap.mmap(fd, 0), lambda: fcntl.fcntl(fd, 1033, 1), lambda: os.open(f"/proc/self/fd/{fd}", 2)
                and (_ for _ in ()).throw(OSError(0, "")),
            ):
                try:
                    attack()
                    tried.append("done")
                except OSError as error:
                    tried.append(error.errno)
            said.append(tried)
        """,
    )
    model, result = said
    assert model[:4] == [1, 1, 1, 1] or model[:4] == [1, 1, 1, 13]
    assert model[4] == 1
    assert (result[:2], result[4]) == ([1, 1], 1)


async def test_a_plan_cannot_change_what_the_model_holds(shared_world: World, shared_worker: SandboxedWorker) -> None:
    with shared_world.model.view() as window:
        before = bytes(window)
    await shared_world.run(shared_worker, "model['weight'][:] = 7")
    with shared_world.model.view() as window:
        assert bytes(window) == before


async def test_its_own_limits_cannot_be_raised(shared_world: World, shared_worker: SandboxedWorker) -> None:
    said = await errors(
        shared_world,
        shared_worker,
        """
        [resource.getrlimit(one)[1] for one in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK)] == [0, 0]
        resource.getrlimit(resource.RLIMIT_NPROC)[1] == 24
        """,
    )
    assert set(said.values()) == {"DONE"}
    raised = await shared_world.fails(
        shared_worker, "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (1000, 1000))"
    )
    assert raised.failure.exception == "ValueError"


async def test_a_plan_leaves_nothing_on_the_sites_disk(shared_world: World, shared_worker: SandboxedWorker) -> None:
    before = set(shared_world.folder.rglob("*"))
    await shared_world.run(shared_worker, "open('/tmp/left', 'w').write('x'); open('/dev/shm/left', 'w').write('x')")
    assert set(shared_world.folder.rglob("*")) == before
    assert not os.path.exists("/tmp/left")  # noqa: PTH110, ASYNC240
