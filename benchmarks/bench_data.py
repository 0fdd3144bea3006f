"""``archipel bench data``: what the way from a hospital's files to a training batch costs, in three figures.

*Loader*: an epoch whose batches are made from prepared files when they are needed, beside the same epoch over tensors
that are in memory already. *Catalog*: many files registered, then looked at again after one has changed, in processes
whose memory is measured. *Import*: a real dataset from a folder to a frozen cohort, beside reading each of its voxels
once with nibabel alone. What is compared takes turns.
"""

from __future__ import annotations

import gc
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from archipel.data import Cohort, PreparedCache, PreparedSource, scan, split
from archipel.data.synthetic import phantom
from archipel.plans import Context, load
from archipel.site.cohorts import cohort_versions
from archipel.site.datasets import catalog
from archipel.site.membership import create_site
from archipel.site.services import cohorts, datasets
from archipel.site.state import StateFolder
from archipel.vocabulary import Actor

HERE = str(Path(__file__).parent)
PLAN = Path(__file__).with_name("bench_plan.py")
LAYOUT = "nifti-pairs"


def bench_data(files: int, pairs: int, data: Path | None, folder: Path | None = None) -> dict[str, Any]:
    """Run everything; the result is the JSON that the command prints. Times in seconds, memory in 10^6 bytes."""
    with tempfile.TemporaryDirectory(prefix="archipel-bench-", dir=folder) as place:
        root = Path(place)
        figures: dict[str, Any] = {"loader": loader(root / "loader", pairs)}
        if files:
            figures["catalog"] = in_a_process_of_its_own(root / "catalog", files)
        if data is not None:
            figures["import"] = imported(root / "import", data, pairs)
    return figures


# Loader ---------------------------------------------------------------------------------------------------------


def loader(folder: Path, pairs: int, subjects: int = 40) -> dict[str, Any]:
    """Training epochs of the same plan on the same phantoms, once from memory and once from prepared files.

    ``batches_ratio`` compares the same without a network: batches of the prepared samples themselves, images and
    labels, put together from files and from arrays in memory.
    """
    import torch

    torch.set_num_threads(1)
    (root,) = phantom.generate(folder / "data", ("site-a",), subjects_per_site=subjects)
    cohort = Cohort(dataset="phantom", format=LAYOUT, samples=scan(LAYOUT, root).samples)
    shown = folder / "shown"
    shown.mkdir()
    with PreparedCache(folder / "prepared", 1 << 33).prepare(root, cohort) as prepared:
        for path, name in prepared.files:
            os.link(path, shown / name)
        kept: Any = load(PLAN)
        made: Any = type("OnDemandPlan", (type(kept),), {"in_memory": False})()
        training, validation = split(PreparedSource(shown, cohort), cohort, 0.0, kept.needs)
        context = Context(site="site-a", seed=1, round=0, rounds=1, arguments=kept.arguments())
        model = kept.initial_model(0)
        for plan in (kept, made):
            plan.prepare(training, validation, context)

        def epoch(plan: Any) -> Callable[[], object]:
            return lambda: plan.train({name: array.copy() for name, array in model.items()}, context)

        trained = alternating(epoch(kept), epoch(made), pairs)
        arrays = [(np.array(volume.image), np.array(volume.label)) for volume in training.volumes()]
        order = np.random.default_rng(0).permutation(subjects).reshape(-1, kept.batch_size)

        def from_memory() -> None:
            for batch in order:
                for part in (0, 1):
                    np.stack([arrays[place][part] for place in batch])

        def from_files() -> None:
            for batch in order:
                volumes = list(training[batch].volumes())
                np.stack([volume.image for volume in volumes])
                np.stack([np.asarray(volume.label) for volume in volumes])

        assembled = alternating(from_memory, from_files, pairs)
    return {
        "subjects": subjects,
        "pairs": pairs,
        "memory_seconds": trained["first"],
        "cached_seconds": trained["second"],
        "ratio": trained["ratio"],
        "batches_memory_seconds": assembled["first"],
        "batches_cached_seconds": assembled["second"],
        "batches_ratio": assembled["ratio"],
    }


def alternating(first: Callable[[], object], second: Callable[[], object], pairs: int) -> dict[str, float]:
    """Medians of both in seconds and the median of each pair's ratio, second over first; one pair warms up.

    Which of the two begins changes from pair to pair.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(pairs + 1):
        for which in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            (first, second)[which]()
            seconds[which].append(time.perf_counter() - began)
    one, other = (found[1:] for found in seconds)
    ratios = [theirs / ours for ours, theirs in zip(one, other, strict=True)]
    middle = statistics.median
    return {"first": round(middle(one), 4), "second": round(middle(other), 4), "ratio": round(middle(ratios), 4)}


# Catalog --------------------------------------------------------------------------------------------------------


def in_a_process_of_its_own(folder: Path, files: int) -> dict[str, Any]:
    """``catalog_figures`` of each step in a new process, whose peak of memory is that step's."""
    folder.mkdir()
    tiny_dataset(folder / "data", files)
    found: dict[str, Any] = {"files": files}
    for step in ("register", "rescan"):
        call = f"from bench_data import catalog_step; catalog_step({str(folder)!r}, {step!r})"
        code = f"import sys; sys.path.insert(0, {HERE!r}); {call}"
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
        found |= json.loads(done.stdout)
    found["rss_mb"] = max(found["register_rss_mb"], found["rescan_rss_mb"])
    return found


def tiny_dataset(root: Path, files: int) -> None:
    """Pairs of an image and a label of 2 x 2 x 2 voxels, each image another one."""
    import nibabel

    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    label = gzip.compress(nibabel.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4)).to_bytes(), 1)
    image = bytearray(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).to_bytes())
    for number in range(files // 2):
        image[-4:] = number.to_bytes(4, "little")
        name = f"sub-{number:06}.nii.gz"
        (root / "images" / name).write_bytes(gzip.compress(image, 1))
        (root / "labels" / name).write_bytes(label)


def catalog_step(place: str, step: str) -> None:
    """Register the dataset of ``tiny_dataset``, or change a file of it and look again; prints JSON."""
    folder = Path(place)
    with _opened_under(folder / "data") as opened:
        if step == "register":
            site = create_site(folder / "site", "bench")
            began = time.perf_counter()
            subjects = datasets.add(site, "tiny", folder / "data", LAYOUT, by=Actor.of_terminal()).dataset.subjects
        else:
            site = StateFolder.open(folder / "site")
            changed = sorted((folder / "data" / "images").iterdir())[0]
            changed.write_bytes(changed.read_bytes())
            opened.clear()
            began = time.perf_counter()
            subjects = datasets.rescan(site, catalog.dataset(site.database, "tiny")).subjects
        seconds = time.perf_counter() - began
    site.close()
    figures = {
        "subjects": subjects,
        f"{step}_seconds": round(seconds, 2),
        f"{step}_files_opened": len(opened),
        f"{step}_rss_mb": round(_peak_memory() / 1e6, 1),
    }
    print(json.dumps(figures))


def _peak_memory() -> int:
    """Bytes. ``getrusage`` would count the process that this one was forked from as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


@contextmanager
def _opened_under(root: Path) -> Iterator[set[str]]:
    """The files under ``root`` that this process opens meanwhile."""
    found: set[str] = set()
    above, watching = str(root), True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and watching and str(arguments[0]).startswith(above):
            found.add(str(arguments[0]))

    sys.addaudithook(watch)
    try:
        yield found
    finally:
        watching = False


# Import ---------------------------------------------------------------------------------------------------------


def imported(folder: Path, data: Path, pairs: int) -> dict[str, Any]:
    """``site-*/images`` and ``labels`` under ``data``: register, check, report and freeze, beside bare nibabel."""
    import nibabel

    from archipel.lab.demo import site_folders

    roots = site_folders(data)
    files = [path for root in roots.values() for path in sorted(root.glob("*/*.nii.gz")) if path.name[0] != "."]
    parts: dict[str, list[float]] = {}
    count = 0

    def ours() -> None:
        nonlocal count
        count += 1
        site = create_site(folder / f"site-{count}", "bench")
        for name, root in roots.items():
            for step, work in _steps(site, name, root):
                began = time.perf_counter()
                work()
                parts.setdefault(step, []).append(time.perf_counter() - began)
        site.close()

    def bare() -> None:
        for path in files:
            np.asanyarray(nibabel.load(path).dataobj).sum()

    folder.mkdir()
    # As a command does before it begins: what was imported is not looked through at each garbage collection.
    gc.freeze()
    found = alternating(bare, ours, pairs)
    each = {step: round(sum(seconds) / count, 4) for step, seconds in parts.items()}
    return {
        "volumes": len(files),
        "nibabel_seconds": found["first"],
        "seconds": found["second"],
        "ratio": found["ratio"],
        "steps": each,
    }


def _steps(site: StateFolder, name: str, root: Path) -> list[tuple[str, Callable[[], object]]]:
    """What a data manager does with a new folder, in order."""

    def freeze() -> None:
        frozen = cohorts.freeze(site, catalog.dataset(site.database, name))
        with site.database.write() as connection:
            cohort_versions.keep(site, connection, frozen, by=Actor.of_terminal())

    return [
        ("register", lambda: datasets.add(site, name, root, LAYOUT, by=Actor.of_terminal())),
        ("check", lambda: datasets.check(site, name)),
        ("report", lambda: datasets.make_report(site, name, site.reports / name)),
        ("freeze", freeze),
    ]
