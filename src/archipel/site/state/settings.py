"""What a site's owner may set, in ``site.toml``: every key known, every value checked, the defaults the safe ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from archipel.governance import SitePolicy
from archipel.storage import write_private
from archipel.vocabulary import BadInput, ErrorCode, Record, SiteName, Thing
from archipel.vocabulary.gpus import GPU_NAME, GpuName
from archipel.vocabulary.remedies import ListGpus

_PROXY = r"^(http://([^\s/@\"\\]+@)?[^\s/@:\"\\]+:[0-9]{1,5}/?)?$"

Proxy = Annotated[str, StringConstraints(pattern=_PROXY)]
"""Empty, or ``http://host:port`` (``http://user:password@host:port``) of a proxy that speaks CONNECT."""


class SandboxRule(StrEnum):
    """Whether this site trains when the sandbox cannot be had; the second choice says in so many words what it is."""

    REQUIRED = "required"
    NONE = "none-i-accept-the-risk"


class SiteSettings(Record):
    """``site.toml``. Times in seconds, sizes in MiB.

    ``uid_base``: each worker gets an unprivileged uid of its own, counted from here (only used by an agent that runs
    as root). ``reconnect_first_s`` and ``reconnect_longest_s``: after a lost connection the agent waits a random time
    whose upper end doubles from the first to the longest, forever. ``worker_idle_s``: a worker that had no task for so
    long is ended, and started again for the next one. ``cache_mb``: how much disk the
    prepared samples of all datasets may take; a cohort in use must fit. ``gpus``: which GPUs jobs may use, and how many
    experiments may share one; without any, everything runs on the CPU. ``gpu_libraries``: the folder of the driver's
    libraries, where ldconfig does not know them. ``log_level``: what a running agent writes to
    standard error.
    """

    site: SiteName
    proxy: Proxy = ""
    sandbox: SandboxRule = SandboxRule.REQUIRED
    uid_base: Annotated[int, Field(ge=1_000, lt=2**31)] = 720_000
    reconnect_first_s: Annotated[float, Field(gt=0)] = 0.5
    reconnect_longest_s: Annotated[float, Field(gt=0)] = 60.0
    worker_idle_s: Annotated[float, Field(gt=0)] = 600.0
    cache_mb: Annotated[int, Field(ge=64)] = 16_384
    gpus: tuple[GpuName, ...] = ()
    experiments_per_gpu: Annotated[int, Field(ge=1, le=16)] = 1
    gpu_libraries: Annotated[str, StringConstraints(pattern=r"^(/[^\x00-\x1f\x7f]*)?$")] = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    policy: SitePolicy = SitePolicy()


_TEMPLATE = """\
# The settings of this site. Every key is checked when a command starts; an unknown one is an error.
site = "{site}"

# The hospital's web proxy, "http://host:port", when there is one; everything then goes through it (HTTPS CONNECT).
proxy = "{proxy}"

# "required": a plan touches data only inside the sandbox; without one this site refuses to train.
# "none-i-accept-the-risk": it trains without a sandbox when none can be had, and the journal says so on every run.
sandbox = "required"

# Seconds to wait before the agent connects again: random, and doubling from the first value to the longest one.
reconnect_first_s = 0.5
reconnect_longest_s = 60.0

# A worker that had no task for so many seconds is ended and gives its memory back; the next task starts it again.
worker_idle_s = 600

# How much disk the prepared samples of all datasets may take, in MiB; those of a running experiment must fit.
cache_mb = 16384

# GPUs that jobs may use, each by its index, its UUID or the UUID of a MIG slice, as `nvidia-smi -L` shows them.
# Without any, everything runs on the CPU. `archipel site gpu` changes and checks these lines.
gpus = []
# How many experiments may share one GPU or slice, each with an equal part of its memory.
experiments_per_gpu = 1
# The folder of the NVIDIA driver's libraries, if ldconfig does not know them.
gpu_libraries = ""

# What this site lets any job ask for, whatever a person approves.
[policy]
releases = ["sum", "individually"]
minimum_subjects = 2
# A dataset or cohort of fewer subjects than this is disclosed as "<5", never by its number.
minimum_cell = 5
maximum_rounds = 10000
# Bytes of information that may leave in one attempt beside the weights: in metrics, seconds and how a plan fails.
maximum_reported_bytes = 512
# Whether the server is shown which of the packages that a job's plan imports are installed here, and their versions.
disclose_packages = true
# The most memory of a GPU that a job may ask for, in MiB.
maximum_gpu_memory_mb = 16384

[policy.limits]
memory_mb = 16384
cpu_s = 86400
wall_s = 86400
tmp_mb = 4096
processes = 256
threads = 64
"""


def write_first(path: Path, site: str, proxy: str = "") -> None:
    """Write a site's first settings, with the words that explain them."""
    write_private(path, _TEMPLATE.format(site=site, proxy=proxy).encode())


def checked_proxy(proxy: str) -> str:
    """The address of a proxy. Raises BadInput (code configuration) when it is not ``http://host:port`` or empty."""
    if not re.fullmatch(_PROXY, proxy):
        raise BadInput(
            # Without a password, which the address may contain.
            Thing("proxy", re.sub(r"//.*@", "//", proxy)),
            "is not the address of a web proxy",
            "give http://host:port",
            code=ErrorCode.CONFIGURATION,
        )
    return proxy


def set_proxy(path: Path, proxy: str) -> None:
    """Change the proxy in the settings file and leave everything else, comments too, as it is."""
    _set_lines(path, {"proxy": f'"{checked_proxy(proxy)}"'})


def set_gpus(path: Path, gpus: Sequence[str], experiments: int | None = None) -> None:
    """Change which GPUs jobs may use, and how many experiments share one, and leave everything else as it is.

    Raises BadInput (code configuration) for what is not the name of a GPU.
    """
    for name in gpus:
        if not re.fullmatch(GPU_NAME, name):
            raise BadInput(
                Thing("GPU", name), "is not the name of a GPU",
                "give an index, or a UUID that begins with GPU- or MIG-, as `nvidia-smi -L` shows them",
                code=ErrorCode.CONFIGURATION, command=ListGpus(),
            )  # fmt: skip
    lines = {"gpus": f"[{', '.join(json.dumps(name) for name in gpus)}]"}
    if experiments is not None:
        lines["experiments_per_gpu"] = str(experiments)
    _set_lines(path, lines)


def _set_lines(path: Path, values: Mapping[str, str]) -> None:
    """Write top-level keys of the settings file, each on the line where it is or as the first line."""
    text = path.read_text(encoding="utf-8")
    # A table may have a key of the same name.
    first = re.search(r"^\[", text, flags=re.MULTILINE)
    head, tables = (text, "") if first is None else (text[: first.start()], text[first.start() :])
    for key, value in values.items():
        line = f"{key} = {value}"
        pattern = rf"^{key}\s*=\s*(\[[^\]]*\]|.*)$"
        found = re.search(pattern, head, flags=re.MULTILINE)
        head = f"{line}\n{head}" if found is None else f"{head[: found.start()]}{line}{head[found.end() :]}"
    write_private(path, (head + tables).encode())
