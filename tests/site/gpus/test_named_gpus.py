"""The owner names GPUs: the settings, the commands, and what jobs are then allowed, told and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archipel.cli.terms_options import gpu_terms
from archipel.governance import SitePolicy, job_hash, objections
from archipel.site.approval import differences, explain_offer
from archipel.site.checks.dry_run import Checks
from archipel.site.checks.findings import Notes, Sign
from archipel.site.checks.preflight import Preflight
from archipel.site.gpus import Driver, NvmlFault
from archipel.site.services import approvals
from archipel.site.state import SiteSettings, set_gpus, set_proxy
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import BadInput, ErrorCode, GpuTerms, NotFound, Release
from archipel.vocabulary.remedies import ListGpus
from worlds.gpus import FIRST, SECOND, SLICE, MadeUpNvml, made_up_driver
from worlds.people import ANNA, approve
from worlds.site import Terminal, job_for, take_offer


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUpNvml:
    """The site's machine has the made-up driver."""
    driver, found = made_up_driver(tmp_path / "gpus")
    monkeypatch.setattr(Driver, "load", classmethod(lambda cls, settings: driver))
    return found


def with_gpus(site: StateFolder, *names: str, **changes: Any) -> StateFolder:
    site.settings = SiteSettings.model_validate({"site": site.name, "gpus": names, **changes})
    return site


def test_a_site_names_no_gpu_unless_its_owner_does(hospital: StateFolder) -> None:
    assert (hospital.settings.gpus, hospital.settings.experiments_per_gpu) == ((), 1)


def test_naming_gpus_leaves_every_other_line_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('# mine\nsite = "a"\ngpus = [\n  "1",\n]\n[policy]\nminimum_cell = 7\n')
    set_gpus(file, ("0", SLICE), 2)
    lines = file.read_text().splitlines()
    assert lines == ["experiments_per_gpu = 2", "# mine", 'site = "a"', f'gpus = ["0", "{SLICE}"]', "[policy]",
                     "minimum_cell = 7"]  # fmt: skip
    set_proxy(file, "http://proxy:3128")
    assert file.read_text().splitlines()[0] == 'proxy = "http://proxy:3128"'
    with pytest.raises(BadInput, match="GPU all: is not the name of a GPU") as refused:
        set_gpus(file, ("all",))
    assert (refused.value.code, refused.value.command) == (ErrorCode.CONFIGURATION, ListGpus())


def test_the_owner_names_lists_and_removes_gpus_by_command(terminal: Terminal, nvml: MadeUpNvml) -> None:
    said = terminal("gpu", "list").stdout
    assert "no GPU is named: everything runs on the CPU" in said and f"can be named: NVIDIA A2 ({FIRST})" in said
    assert f"GPUs that jobs may use: {FIRST}" in terminal("gpu", "add", FIRST, "--experiments", "2").stdout
    assert "GPUs that jobs may use: " + f"{FIRST}, {SLICE}" in terminal("gpu", "add", SLICE).stdout
    line = f"GPU {FIRST}: NVIDIA A2, 16384 MiB, 2 experiments at a time with 8192 MiB each"
    for command in (("gpu", "list"), ("status",)):
        assert line in terminal(*command).stdout
    assert [row["memory_mb_each"] for row in terminal.json("status")["gpus"]] == [8192, 5120]
    assert "GPUs that jobs may use: none" not in terminal("gpu", "remove", FIRST).stdout
    assert terminal("gpu", "remove", SLICE).stdout.startswith("GPUs that jobs may use: none")
    refused = terminal("gpu", "remove", SLICE).exception
    assert isinstance(refused, NotFound) and refused.command == ListGpus()


def test_a_gpu_that_no_worker_could_use_is_not_named(terminal: Terminal, tmp_path: Path, nvml: MadeUpNvml) -> None:
    before = (terminal.state / "site.toml").read_text()
    (tmp_path / "gpus/machine/dev/nvidia-uvm").unlink()
    refused = terminal("gpu", "add", "0").exception
    assert isinstance(refused, NvmlFault) and "device node /dev/nvidia-uvm: is not there" in str(refused)
    assert (terminal.state / "site.toml").read_text() == before


def test_a_named_gpu_that_is_gone_is_shown_with_the_reason(terminal: Terminal, nvml: MadeUpNvml) -> None:
    set_gpus(terminal.state / "site.toml", ("7",))
    assert "GPU 7 cannot be used: GPU 7: is not on this machine" in terminal("status").stdout


def test_without_a_driver_the_status_says_so_and_touches_nothing_where_no_gpu_is_named(terminal: Terminal) -> None:
    assert terminal.json("status")["gpus"] == []
    set_gpus(terminal.state / "site.toml", ("0",))
    assert "GPU 0 cannot be used: CUDA's library libcuda.so.1" in terminal("status").stdout


def refusals(asked: dict[str, Any] | None, gpus: int, site: StateFolder, **policy: int) -> list[str]:
    job = job_for(site, gpu=asked)
    return objections(job, SitePolicy(**policy), 10, Release.INDIVIDUALLY, gpus=gpus)


def test_a_policy_bounds_what_a_job_asks_of_a_gpu(hospital: StateFolder) -> None:
    (none,) = refusals({}, 0, hospital)
    assert none == (
        "the job needs a GPU, and this site's owner named none: name one with archipel site gpu add, or ask the "
        "researcher for a job that runs on the CPU too"
    )
    assert refusals(None, 0, hospital) == refusals({}, 1, hospital) == []
    assert refusals({"required": False, "memory_mb": 99_999}, 0, hospital) == []
    (much,) = refusals({"memory_mb": 16_385}, 1, hospital)
    assert much.endswith("the policy allows 16384 (maximum_gpu_memory_mb)")
    assert refusals({"memory_mb": 16_385, "required": False}, 1, hospital) == [much]


def test_a_site_whose_owner_takes_the_gpu_back_refuses_what_was_approved(with_table: StateFolder) -> None:
    take_offer(with_gpus(with_table, "0"), gpu=GpuTerms())
    approve(with_table, "heart")
    with_gpus(with_table)
    (against,) = approvals.prepare(with_table, "heart").objections
    assert against.startswith("the job needs a GPU")


def test_a_job_without_a_gpu_has_the_hash_that_it_had_before_jobs_could_ask_for_one(hospital: StateFolder) -> None:
    plain = job_for(hospital)
    assert job_hash(job_for(hospital, gpu=None)) == job_hash(plain) != job_hash(job_for(hospital, gpu=GpuTerms()))


def test_whoever_approves_reads_what_a_gpu_means(hospital: StateFolder) -> None:
    def said(site: StateFolder, **asked: Any) -> str:
        job = job_for(site, gpu=GpuTerms(**asked))
        return dict(explain_offer(job, site.settings, "North", "table", 6))["On a GPU?"]

    assert "On a GPU?" not in dict(explain_offer(job_for(hospital), hospital.settings, "North", "table", 6))
    assert said(hospital) == "It needs one, and this site's owner named none."
    assert said(hospital, required=False).endswith("it runs on the CPU.")
    words = said(with_gpus(hospital, "0", SECOND, experiments_per_gpu=3), memory_mb=2048)
    assert words.startswith(
        f"Yes: 2 GiB of the memory of one of the GPUs 0, {SECOND}, which up to 3 experiments share."
    )
    for warning in ("a part of this machine's kernel", "share its caches", "names of other cards", "on the CPU only"):
        assert warning in words


def test_a_job_that_asks_for_a_gpu_differs_from_one_that_does_not(hospital: StateFolder) -> None:
    lines = differences(job_for(hospital), job_for(hospital, gpu=GpuTerms(memory_mb=512)))
    assert any(line.startswith("what it needs of a GPU") for line in lines)


@pytest.mark.parametrize(
    ("memory_mb", "or_cpu", "asked"),
    [
        (None, False, None),
        (None, True, GpuTerms(required=False)),
        (512, False, GpuTerms(memory_mb=512)),
        (512, True, GpuTerms(memory_mb=512, required=False)),
    ],
)
def test_the_options_of_a_researcher_say_what_a_job_asks_of_a_gpu(
    memory_mb: int | None, or_cpu: bool, asked: GpuTerms | None
) -> None:
    assert gpu_terms(memory_mb, or_cpu) == asked
    with pytest.raises(BadInput, match="memory_mb=1: is too small; give at least 256"):
        gpu_terms(1, or_cpu)


async def test_a_check_computes_on_the_gpu_unless_the_agent_may_use_it(
    with_table: StateFolder, nvml: MadeUpNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_offer(with_gpus(with_table, "0"), gpu=GpuTerms(memory_mb=512))
    notes, checks = Notes(), Checks(with_table, "heart", by=ANNA)
    given = await checks._gpu(notes)
    assert given is not None and given.gpu.uuid == FIRST and not notes.findings
    monkeypatch.setattr(StateFolder, "agent_runs", lambda self: True)
    assert await checks._gpu(notes) is None
    assert [one.sign for one in notes.findings] == [Sign.LOOK]
    with_gpus(with_table)
    assert await checks._gpu(notes) is None


def gpu_findings(site: StateFolder, **asked: Any) -> list[tuple[str, Sign, str]]:
    notes, job = Notes(), job_for(site, gpu=GpuTerms(**asked))
    Preflight(site, job, None, None, notes)._gpu(job.gpu)  # type: ignore[arg-type]
    return [(one.what, one.sign, one.message) for one in notes.findings]


def test_preflight_says_whether_a_gpu_here_fits(hospital: StateFolder, nvml: MadeUpNvml) -> None:
    assert gpu_findings(hospital) == []
    ((_, sign, words),) = gpu_findings(hospital, required=False)
    assert sign is Sign.GO and words.endswith("the job runs on the CPU here")
    with_gpus(hospital, "0", "9", experiments_per_gpu=2)
    fits, gone = gpu_findings(hospital)
    assert fits == ("GPU 0", Sign.GO, "NVIDIA A2, 8192 MiB for one experiment")
    assert gone[1] is Sign.FIX and "is not on this machine" in gone[2]
    with_gpus(hospital, "0", experiments_per_gpu=2)
    small, unmet = gpu_findings(hospital, memory_mb=8193)
    assert small[1] is Sign.LOOK and unmet == (
        "GPU", Sign.FIX, "none has enough memory: ask the researcher for less, or name a larger one"
    )  # fmt: skip
