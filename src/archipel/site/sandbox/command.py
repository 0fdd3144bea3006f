"""The command that starts a worker: what it may see and what it may not, as a list of arguments.

Everything the worker sees is named here; there is no rule that takes something away again. Paths are those of the
agent's own interpreter and installation, the plan's files and the prepared data.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import archipel
from archipel.site.gpus import ShownGpu
from archipel.site.sandbox import machine_figures
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, Thing, WorkerLimits
from archipel.vocabulary.remedies import GrantAccess
from archipel.vocabulary.threads import thread_variables

DATA = "/data"
PLAN = "/plan"
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin")
_FILES = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime",
    "/etc/mime.types",
)  # fmt: skip


def worker_arguments(descriptor: int, sandboxed: bool) -> list[str]:
    """The interpreter and module that run inside."""
    confined = ["confined"] if sandboxed else []
    return [sys.executable, "-I", "-B", "-m", "archipel.site.worker", str(descriptor), *confined]


def environment(limits: WorkerLimits, gpu: ShownGpu | None = None) -> dict[str, str]:
    """Every variable the worker gets; nothing is inherited. Without a GPU it is to find none."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108 - the sandbox's own tmpfs
        # The uid has no entry in the sandbox's password file, and MONAI asks for the user's name when imported.
        "USER": "archipel",
        "LANG": "C.UTF-8",
        **thread_variables(limits.threads),
        "MPLCONFIGDIR": "/tmp",  # noqa: S108
        **({"CUDA_VISIBLE_DEVICES": ""} if gpu is None else gpu.environment),
    }


def bare_arguments(uid: int | None) -> list[str]:
    """What runs the worker without a sandbox: its own uid at least, when the agent may give one.

    Raises ArchipelError (code sandbox) when that uid may not read the interpreter or this package.
    """
    if uid is None:
        return []
    for needed in (sys.executable, archipel.__file__):
        # The kernel is asked as that uid: the bits of one file do not show what folders above and access lists allow.
        if subprocess.run([*_as_uid(uid), "/usr/bin/test", "-r", needed], check=False).returncode != 0:
            raise ArchipelError(
                needed, "cannot be read by the worker, which has a uid of its own without a sandbox too",
                "install Python and archipel where every user may read",
                code=ErrorCode.SANDBOX, values={"path": needed, "uid": uid}, command=GrantAccess(path=needed),
            )  # fmt: skip
    return _as_uid(uid)


def visible_code() -> list[Path]:
    """Where the interpreter, its packages and this package lie, outside the system's own folders."""
    found = {Path(sys.base_prefix), Path(sys.prefix), Path(archipel.__file__).parent}
    return sorted(path.resolve() for path in found)


def is_visible(path: Path) -> bool:
    """Whether the sandbox shows a file or folder of the interpreter or of its packages."""
    place = path.resolve()
    return _inside_system(place) or any(place.is_relative_to(shown) for shown in visible_code())


def bubblewrap_arguments(
    *,
    plan: Mapping[str, int],
    figures: Mapping[str, int],
    dataset: Sequence[tuple[Path, str]],
    limits: WorkerLimits,
    seccomp: int,
    uid: int | None,
    hidden: Path,
    gpu: ShownGpu | None = None,
) -> list[str]:
    """The bubblewrap command up to the worker's own arguments.

    ``plan`` has a descriptor for each of the plan's files by its path, ``figures`` one for each covered file of
    ``/proc``; ``dataset`` pairs a file here with its place under ``/data``. ``uid`` is the worker's own when the agent
    is root; else the worker keeps the agent's, in a user namespace that only it is in. ``hidden``, the site's state
    folder, must not become visible: raises BadInput (code sandbox) when a bind would show it. ``gpu`` is what is shown
    of a GPU, whose figures are among ``figures``.
    """
    shown: list[tuple[Path, str]] = [(path, str(path)) for path in map(Path, _SYSTEM) if path.exists()]
    shown += [(path, str(path)) for path in visible_code() if not _inside_system(path)]
    shown += [(Path(name), name) for name in _FILES if Path(name).exists()]
    shown += [] if gpu is None else [*gpu.folders, *gpu.libraries]
    for source, _ in shown:
        _refuse_to_show(source, hidden)
    size = str(limits.tmp_mb << 20)
    arguments = [
        shutil.which("bwrap") or "bwrap",
        "--unshare-net",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "worker",
        "--clearenv",
    ]
    filtered = ["--seccomp", str(seccomp)]
    if uid is None:
        arguments += _user_namespace()
    else:
        arguments += [*filtered, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        arguments += ["--cap-add", "CAP_SETPCAP"]
    for name, value in environment(limits, gpu).items():
        arguments += ["--setenv", name, value]
    arguments += ["--proc", "/proc"]
    covered = machine_figures.covered_folders()
    for folder in covered:
        arguments += ["--perms", "0555", "--tmpfs", folder]
    for place, descriptor in figures.items():
        arguments += _folders_between(place, covered)
        arguments += ["--perms", "0444", "--ro-bind-data", str(descriptor), place]
    for folder in covered:
        arguments += ["--remount-ro", folder]
    # Without terminals: the machine counts them for all, and the end of one wakes a frozen process.
    arguments += ["--dev", "/dev", "--perms", "0555", "--tmpfs", "/dev/pts", "--remount-ro", "/dev/pts"]
    arguments += [] if gpu is None else _device_nodes(gpu)
    arguments += ["--size", size, "--perms", "1777", "--tmpfs", "/dev/shm"]  # noqa: S108
    arguments += ["--size", size, "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108
    inside = [(source, f"{DATA}/{place}".rstrip("/")) for source, place in dataset]
    files = {f"{PLAN}/{path}": descriptor for path, descriptor in plan.items()}
    links = () if gpu is None else gpu.links
    arguments += _folders_above([*files, *(place for _, place in (*shown, *inside)), *(place for place, _ in links)])
    for source, place in shown:
        if source.is_symlink() and place in _SYSTEM:
            arguments += ["--symlink", str(source.readlink()), place]
        else:
            arguments += ["--ro-bind", str(source), place]
    for place, target in links:
        arguments += ["--symlink", target, place]
    for source, place in inside:
        arguments += ["--ro-bind", str(source), place]
    for place, descriptor in files.items():
        arguments += ["--perms", "0444", "--ro-bind-data", str(descriptor), place]
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]  # noqa: S108
    arguments.append("--")
    # The filter forbids new namespaces, so that it waits for the last one.
    return arguments + ([*inner_namespace(), *filtered, "--"] if uid is None else _as_uid(uid))


def inner_namespace() -> list[str]:
    """Start of a second bubblewrap, up to its last options, for an agent that is not root.

    The worker then has the uid of process 1. In one user namespace with it a plan could write to ``/proc/1/mem`` and
    so run code that is never frozen; the kernel refuses that from a namespace further in.
    """
    return [shutil.which("bwrap") or "bwrap", *_user_namespace(), "--die-with-parent", "--dev-bind", "/", "/"]


def _user_namespace() -> list[str]:
    return ["--unshare-user", "--uid", str(os.getuid()), "--gid", str(os.getgid())]


def _as_uid(uid: int) -> list[str]:
    program = shutil.which("setpriv", path="/usr/bin:/bin") or "setpriv"
    return [
        program, f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all", "--ambient-caps=-all",
        "--bounding-set=-all", "--no-new-privs", "--",
    ]  # fmt: skip


def _folders_above(places: Sequence[str]) -> list[str]:
    """Folders that contain the binds; made by bubblewrap itself they would be closed to the worker's uid."""
    above = {PLAN, DATA} | {str(parent) for place in places for parent in Path(place).parents}
    arguments = []
    for folder in sorted(above - {"/"}):
        arguments += ["--perms", "0755", "--dir", folder]
    return arguments


def _device_nodes(gpu: ShownGpu) -> list[str]:
    """Bind the nodes of a GPU in the new ``/dev``. A plain bind would be mounted so that no device can be opened."""
    folders = sorted({str(Path(place).parent) for _, place in gpu.nodes} - {"/dev"})
    arguments = [word for folder in folders for word in ("--perms", "0755", "--dir", folder)]
    return arguments + [word for source, place in gpu.nodes for word in ("--dev-bind", str(source), place)]


def _folders_between(place: str, covered: Sequence[str]) -> list[str]:
    """Folders above a file that are inside a covered one, the upper ones first, where bubblewrap has to make them."""
    above = [str(parent) for parent in reversed(Path(place).parents)]
    between = [folder for folder in above if any(folder.startswith(f"{one}/") for one in covered)]
    return [word for folder in between for word in ("--perms", "0755", "--dir", folder)]


def _inside_system(path: Path) -> bool:
    return any(path.is_relative_to(system) for system in _SYSTEM)


def _refuse_to_show(source: Path, hidden: Path) -> None:
    there, secret = source.resolve(), hidden.resolve()
    if secret.is_relative_to(there) or there.is_relative_to(secret):
        raise BadInput(
            Thing.file(source), "contains the site's own state folder, or is inside it", "keep data and state apart",
            code=ErrorCode.SANDBOX,
        )  # fmt: skip
