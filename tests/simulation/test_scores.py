"""What a simulation's models reached: means by site, and over all sites by weight, never a mean of means."""

from __future__ import annotations

from archipel.simulation.scores import scores
from archipel.vocabulary import MetricSum


def test_all_sites_together_are_weighted_by_their_samples() -> None:
    found = scores(
        "federated",
        {
            "b": {"dice": MetricSum(total=3.0, weight=4.0)},
            "a": {"dice": MetricSum(total=0.5, weight=1.0), "loss": MetricSum(total=2.0, weight=1.0)},
        },
    )
    assert found.all_sites == {"dice": 0.7, "loss": 2.0}
    assert list(found.per_site) == ["a", "b"]
    assert found.per_site == {"a": {"dice": 0.5, "loss": 2.0}, "b": {"dice": 0.75}}


def test_a_metric_of_no_sample_is_left_out() -> None:
    nothing = {"dice": MetricSum(total=0.0, weight=0.0)}
    found = scores("pooled", {"a": nothing, "b": {"dice": MetricSum(total=1.0, weight=2.0)}})
    assert found.per_site == {"a": {}, "b": {"dice": 0.5}} and found.all_sites == {"dice": 0.5}
    assert scores("pooled", {"a": nothing}).all_sites == {}
