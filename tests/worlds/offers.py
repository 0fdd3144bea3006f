"""A plan that is offered to a site for its checks, and what a check found."""

from __future__ import annotations

from pathlib import Path

from archipel.plans.job_builder import draft
from archipel.site.approval import offers
from archipel.site.checks.findings import CheckResult, Sign
from archipel.site.state.folder import StateFolder
from archipel.vocabulary import RosterEntry, RoundTerms, WorkerLimits
from worlds.site import SERVER

PLAN = '''
import numpy as np
from archipel.plans import Plan, TrainingResult
from archipel.vocabulary import DataNeeds, InputValues, MetricSpec, MetricSum

class Means(Plan):
    """Learns the mean of x; each pass goes half of the way."""

    needs = DataNeeds(NEEDS)
    validation = (MetricSpec(name="distance", better="lower"),)

    def initial_model(self, seed):
        return {"w": np.full(1, 100.0)}

    def prepare(self, training, validation, context):
        self.x, self.held = (self.values(side) for side in (training, validation))

    def values(self, side):
        VALUES

    def train(self, model, context):
        TRAIN
        model["w"] += 0.5 * (self.x.mean() - model["w"])
        distance = float(abs(model["w"][0] - self.x.mean()))
        return TrainingResult({"loss": MetricSum(total=distance, weight=1.0)})

    def evaluate(self, models, context):
        distance = float(abs(models[0]["w"][0] - self.held.mean()))
        return {"distance": MetricSum(total=distance * len(self.held), weight=len(self.held))}
'''
ROWS = "return np.asarray(side.table().x, float).reshape(len(side), -1).mean(1)"
VOXELS = "return np.array([volume.image.mean() for volume in side.volumes()])"


def offered(
    site: StateFolder, folder: Path, *, dataset: str = "table", needs: str = 'kind="arrays"', values: str = ROWS,
    train: str = "pass", rounds: int = 3, **terms: float,
) -> None:  # fmt: skip
    """Offer the plan with these parts as experiment ``heart``."""
    file = folder / "means.py"
    file.write_text(PLAN.replace("NEEDS", needs).replace("VALUES", values).replace("TRAIN", train))
    made = draft(
        file,
        experiment="heart",
        roster=[RosterEntry(site=site.name, identity_key=site.identity.public, dataset=dataset)],
        server_key=SERVER.public,
        terms=RoundTerms(rounds=rounds, quorum=1, **terms),
        limits=WorkerLimits(memory_mb=600, cpu_s=60, wall_s=60),
    )
    for content in made.plan.files.blobs.values():
        site.blobs.put(content)
    offers.record(site, made.job)


def findings(rung: CheckResult, sign: Sign) -> dict[str, str]:
    return {one.what: one.message for one in rung.findings if one.sign is sign}
