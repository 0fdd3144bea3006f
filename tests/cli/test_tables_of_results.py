"""The table of results in a terminal: what a mean is a mean of, and the worst site beside it."""

from __future__ import annotations

import pytest

from archipel.cli.scores import print_scores
from archipel.simulation.scores import ModelScores
from archipel.vocabulary import MetricSpec

SPECS = (
    MetricSpec(name="auc", better="higher", counts="site", largest_weight=1),
    MetricSpec(name="mae", better="lower"),
)
PER_SITE = {"bern": {"auc": 0.9, "mae": 3.0}, "zurich": {"auc": 0.75, "mae": 2.5}}


def test_each_model_has_its_worst_site_and_each_metric_what_it_is_averaged_by(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    one = {"bern": {"auc": 0.5}}
    scores = [
        ModelScores(model="federated", all_sites={"auc": 0.825, "mae": 2.8}, per_site=PER_SITE),
        ModelScores(model="bern alone", all_sites={"auc": 0.5, "other": 1.0}, per_site=one),
    ]
    print_scores(scores, SPECS)
    shown = capsys.readouterr().out
    auc, mae, other = shown.index("auc, averaged by site"), shown.index("mae, averaged by sample"), shown.index("other")
    assert auc < mae < other
    rows = [line.replace("│", " ").split() for line in shown.splitlines()]
    assert ["federated", "0.8250", "0.9000", "0.7500", "zurich", "0.7500"] in rows
    assert ["federated", "2.8000", "3.0000", "2.5000", "bern", "3.0000"] in rows
    assert ["bern", "alone", "0.5000", "0.5000", "-", "-"] in rows, "of one site there is no worst one"
