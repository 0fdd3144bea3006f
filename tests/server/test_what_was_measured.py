"""What researchers see of the measured models counts subjects by metrics that count samples, and by no others."""

from __future__ import annotations

import pytest

from archipel.rounds import SiteRecord, StageRecord
from archipel.rounds.record_views import baselines
from archipel.rounds.stages import Stage
from archipel.vocabulary import MetricSum, TaskKind
from archipel.vocabulary.states import ParticipantStatus

MEASURED = {"dice": MetricSum(total=9.0, weight=12), "recall": MetricSum(total=5e5, weight=10**6)}


@pytest.mark.parametrize(("counting", "subjects"), [({"dice"}, 12), ({"dice", "auc"}, 12), (set(), 0)])
def test_voxels_are_not_taken_for_subjects(counting: set[str], subjects: int) -> None:
    record = StageRecord(
        stage=Stage(kind=TaskKind.EVALUATE, round=3), attempt=1, committed=True, seconds=1.0, contributors=("berlin",),
        sites={"berlin": SiteRecord(state=ParticipantStatus.DELIVERED, validation=MEASURED)}, validation=MEASURED,
    )  # fmt: skip
    federated = baselines([record], counting, newest=3).federated
    assert federated is not None and federated.subjects == subjects
    assert federated.validation == {"dice": 0.75, "recall": 0.5}
