"""What a person reads before approving a job of which a part stays at the site, and of one that continues it."""

from __future__ import annotations

from typing import Any

import pytest
from test_attempts_at_a_stage import Stages
from test_continued_jobs import MADE, STARTS, explained, lineage_of

from archipel.privacy.capacity import Measured, reported_bytes
from archipel.site.approval import lineage
from archipel.site.approval.job_differences import differences
from archipel.site.state.folder import StateFolder
from archipel.tensors import blob_hash
from archipel.vocabulary import Baselines, Job, LocalPart, TensorSchema, TensorSpec
from worlds.people import approve

OWN = TensorSchema(tensors=(TensorSpec(name="norm.running_mean", dtype="float32", shape=(6,)),))
PART = LocalPart(tensors=OWN, blob=blob_hash(b"initial"))


@pytest.fixture
def parent(with_table: StateFolder) -> Job:
    """Experiment "heart", approved, of which this site has the signed result of round 1."""
    stages = Stages(with_table)
    approve(with_table, "heart")
    stages.done(1, stages.job.initial_model, MADE)
    return stages.job


def test_it_says_what_stays_until_when_and_that_it_does_not_leave(with_table: StateFolder) -> None:
    said = explained(with_table, local=PART)
    text = "\n".join(said.values())
    assert "Another 6 numbers (24 bytes) are local" in text and "norm.running_mean" in text
    leaves = next(answer for question, answer in said.items() if "leaves" in question)
    assert "a part of the model: of its" in leaves and "running_mean" not in leaves
    stays = said["What stays here?"]
    assert "kept at this site until the experiment ends: an update has no place for it" in stays
    assert "A patient who withdraws" in stays


def test_what_a_plan_can_tell_does_not_grow(parent: Job) -> None:
    site = Measured(50, 10, 10, 5)
    validated = parent.model_copy(update={"baselines": Baselines(local=True)})
    with_part = validated.model_copy(update={"local": PART})
    assert reported_bytes(with_part, site) == reported_bytes(validated, site)


@pytest.mark.parametrize(("local", "found"), [(None, "confirmed"), (PART, "contradicted")])
def test_a_job_that_keeps_another_part_local_does_not_continue_it(
    with_table: StateFolder, parent: Job, local: Any, found: str
) -> None:
    job = parent.model_copy(update={"initial_model": MADE, "local": local})
    with with_table.database.read() as connection:
        evidence = lineage.find_evidence(connection, job, lineage_of(parent))
    assert evidence.evidence == found


def test_it_is_said_to_begin_again_and_to_differ(with_table: StateFolder, parent: Job) -> None:
    said = explained(with_table, initial_model=MADE, lineage=lineage_of(parent), local=PART)
    assert "The local part that was trained here then is not taken over either" in said[STARTS]
    lines = differences(parent, parent.model_copy(update={"local": PART}))
    assert any("the part of the model that stays at each site" in line for line in lines)
