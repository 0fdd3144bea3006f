"""The demo: hospitals as real processes train one segmentation network and the models that it is compared with.

A server, a site for each folder of data, mutual TLS, sandboxed workers; the same plan trained on each site alone, their
ensemble, and on all images pooled. Nothing listens outside 127.0.0.1, and every process it starts it ends.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archipel.data import Sample, format_named, scan, validation_ids
from archipel.inference.segmentation import segment
from archipel.lab.pooled import PooledInBackground, PooledRun
from archipel.lab.processes import LocalFederation
from archipel.plans import Plan, load
from archipel.researcher import connect
from archipel.researcher.experiment import Experiment
from archipel.researcher.outcome import ExperimentResult, MiddleSlice, ModelKind, ModelScore, SiteFacts, middle_slice
from archipel.researcher.report import write_report
from archipel.tensors import decode
from archipel.vocabulary import BadInput, Thing, WorkerLimits

PLAN = Path(__file__).with_name("hippocampus.py")
NAME = "demo"
FRACTION = 0.2
Say = Callable[[str], None]


def site_folders(data: Path) -> dict[str, Path]:
    """The sites of a data folder: ``site-*/images`` and ``site-*/labels``. Raises BadInput when there are none."""
    found = {path.name.lower(): path for path in sorted(data.glob("site-*")) if (path / "images").is_dir()}
    if not found:
        raise BadInput(
            Thing.folder(data), "holds no site-*/images folder", "store the data as site-a/images and site-a/labels"
        )
    return found


@dataclass(frozen=True)
class DemoTerms:
    """What is run, and the folder that the results go to. ``data`` names the images in words."""

    title: str
    data: str
    rounds: int
    epochs: int
    seed: int
    folder: Path


def run_demo(roots: Mapping[str, Path], terms: DemoTerms, say: Say) -> ExperimentResult:
    """Run everything and write the folder of results (report, figures, summary, model)."""
    began = time.monotonic()
    plan: Any = load(PLAN)
    with (
        tempfile.TemporaryDirectory(prefix="archipel-demo-") as place,
        PooledInBackground(PLAN, roots, terms.rounds, terms.epochs, terms.seed) as pooled,
        LocalFederation.create(Path(place) / "federation", name=NAME) as federation,
    ):
        say(f"server on {federation.url}; {len(roots)} hospitals join, each with its own sandbox")
        federation.start_server()
        for name, root in roots.items():
            federation.add_site(name, root, layout="nifti-pairs", labels=dict(plan.needs.labels))
            federation.start_site(name)
        federation.wait_connected(set(roots))
        ready = time.monotonic()
        with connect(federation.url, token=federation.token, ca=federation.authority) as researcher:
            experiment = researcher.create(
                PLAN,
                rounds=terms.rounds,
                arguments={"epochs": terms.epochs},
                seed=terms.seed,
                baselines=True,
                name=NAME,
                title=terms.title,
                validation_fraction=FRACTION,
                limits=WorkerLimits(threads=1),
            )
            experiment.submit()
            say(f"job {experiment.job_hash[:19]} is offered; each hospital's data manager approves it")
            for site in federation.sites.values():
                site.approve(experiment.name)
            experiment.run()
            federated = time.monotonic()
            say("the same epochs on all images pooled (simulation only: real hospitals do not share their images)")
            compared = pooled.result()
            seconds = {"set-up": ready - began, "federated and local": federated - ready}
            result = _result(experiment, plan, roots, compared, terms, seconds)
    result = replace(result, seconds={**result.seconds, "total": time.monotonic() - began})
    write_report(result, terms.folder)
    return result


def _result(
    experiment: Experiment,
    plan: Any,
    roots: Mapping[str, Path],
    pooled: PooledRun,
    terms: DemoTerms,
    seconds: Mapping[str, float],
) -> ExperimentResult:
    terms.folder.mkdir(parents=True, exist_ok=True)
    model = experiment.download(terms.folder / "model.safetensors")
    records = [attempt for attempt in experiment.rounds() if attempt.is_committed]
    baselines = experiment.document().baselines
    assert baselines.federated is not None
    assert baselines.ensemble is not None
    scores = [
        _score(ModelKind.FEDERATED, ModelKind.FEDERATED, baselines.federated.validation, baselines.federated.per_site)
    ]
    scores.append(_pooled_score(pooled))
    scores.append(
        _score(ModelKind.ENSEMBLE, ModelKind.ENSEMBLE, baselines.ensemble.validation, baselines.ensemble.per_site)
    )
    scores += [
        _score(ModelKind.LOCAL, site, baseline.validation, baseline.per_site)
        for site, baseline in sorted(baselines.local.items())
    ]
    slices, facts = [], []
    arrays = decode(model.read_bytes())
    for name, root in sorted(roots.items()):
        subjects = {sample.subject: sample for sample in scan("nifti-pairs", root).samples}
        held_out = sorted(validation_ids(subjects, FRACTION))
        times = [attempt.sites[name].seconds for attempt in records if name in attempt.contributors]
        facts.append(SiteFacts(name, len(subjects) - len(held_out), len(held_out), float(np.median(times))))
        if held_out:
            slices.append(_slice(name, root, subjects[held_out[0]], plan, arrays))
    return ExperimentResult(
        title=terms.title,
        data=terms.data,
        deployed=True,
        sites=facts,
        rounds=terms.rounds,
        epochs_per_round=terms.epochs,
        seed=terms.seed,
        scores=scores,
        curves={
            ModelKind.FEDERATED: [attempt.model_validation["dice"] for attempt in records],
            ModelKind.POOLED: list(pooled.curve),
        },
        losses={site: [attempt.sites[site].metrics["loss"] for attempt in records] for site in roots},
        slices=slices,
        seconds={**seconds, "pooled (beside them)": pooled.seconds},
        label_names=plan.label_names(),
        plan=PLAN.name,
        plan_hash=experiment.job.plan.hash,
        job_hash=experiment.job_hash,
        versions={"archipel": version("archipel"), "torch": version("torch"), "monai": version("monai"),
                  "python": platform.python_version()},
    )  # fmt: skip


def _score(
    kind: ModelKind, name: str, validation: Mapping[str, float], per_site: Mapping[str, Mapping[str, float]]
) -> ModelScore:
    return ModelScore(
        kind=kind,
        name=name,
        value=validation["dice"],
        per_site={site: means["dice"] for site, means in per_site.items()},
        per_structure={key.removeprefix("dice_"): value for key, value in validation.items() if key != "dice"},
    )


def _pooled_score(pooled: PooledRun) -> ModelScore:
    return _score(
        ModelKind.POOLED,
        ModelKind.POOLED,
        {name: total.mean() for name, total in pooled.validation.items()},
        {site: {name: total.mean() for name, total in sums.items()} for site, sums in pooled.per_site.items()},
    )


def _slice(site: str, root: Path, subject: Sample, plan: Plan, arrays: Mapping[str, NDArray[Any]]) -> MiddleSlice:
    from archipel.plans.segmentation import dice_scores

    (reading,) = format_named("nifti-pairs").read(root, [subject], {})
    image, label, affine = reading.images["image"], reading.label, reading.affine
    assert affine is not None
    found = segment(plan, [arrays], reading.images, affine, thing=subject.name)
    truth = np.zeros_like(found) if label is None else label
    dice = dice_scores(found, truth, {1: "anterior", 2: "posterior"})["whole"]
    return middle_slice(site, subject.name, image, truth, found, affine, dice)
