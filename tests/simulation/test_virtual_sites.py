"""One dataset among virtual sites: every patient once, by the seed alone, in the proportions of the distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archipel.data import Cohort, Sample
from archipel.plans import derive_seed
from archipel.simulation import SimulatedSite, VirtualSites, divided
from archipel.simulation.virtual_sites import shares
from archipel.vocabulary import BadInput, ColumnNeed, DataNeeds

NEEDS = DataNeeds(kind="volumes", modalities=("t1",), target=ColumnNeed(name="disease", categories=("no", "yes")))


def dataset(patients: int, visits: int = 1, **values: Any) -> SimulatedSite:
    """Patients ``p0`` and so on, whose values beside volumes are functions of their number and the visit."""
    samples = tuple(
        Sample(
            subject=f"p{number:04d}", session=f"v{visit}", files={"t1": f"p{number}_{visit}.nii"},
            hash="blake3:" + "0" * 64, values={name: of(number, visit) for name, of in values.items()},
        )
        for number in range(patients) for visit in range(visits)
    )  # fmt: skip
    return SimulatedSite("whole", Path("nowhere"), Cohort(dataset="data", format="bids", samples=samples))


def ill(share: float) -> Any:
    return lambda number, _: "yes" if number % 100 < 100 * share else "no"


def patients_of(sites: list[SimulatedSite]) -> list[list[str]]:
    return [list(site.cohort.subjects) for site in sites]


@settings(max_examples=25, deadline=None)
@given(
    patients=st.integers(40, 120), sites=st.integers(1, 8), alpha=st.floats(0.5, 100), seed=st.integers(0, 2**32),
    by=st.sampled_from(["label", "quantity", "feature"]), visits=st.integers(1, 3),
)  # fmt: skip
def test_every_patient_is_at_one_site_with_all_visits_and_the_seed_decides(
    patients: int, sites: int, alpha: float, seed: int, by: str, visits: int
) -> None:
    whole = dataset(patients, visits, disease=ill(0.3), age=lambda number, visit: 20.0 + number % 50 + visit)
    more: dict[str, Any] = {"column": "age"} if by == "feature" else {"alpha": alpha}
    how = VirtualSites(by=by, sites=sites, seed=seed, fewest=1, **more)
    found = divided(whole, how, NEEDS)
    assert len(found) == sites
    assert sorted(one for some in patients_of(found) for one in some) == list(whole.cohort.subjects)
    keys = sorted(key for site in found for key in site.cohort.samples.each_key())
    assert keys == sorted(whole.cohort.samples.each_key())
    assert patients_of(divided(whole, how, NEEDS)) == patients_of(found)


def test_another_seed_divides_differently() -> None:
    whole = dataset(100, disease=ill(0.5))
    one, other = [
        patients_of(divided(whole, VirtualSites(by="label", sites=4, alpha=1.0, seed=seed), NEEDS)) for seed in (0, 1)
    ]
    assert one != other


def test_sizes_of_quantity_skew_are_those_of_numpys_dirichlet() -> None:
    how = VirtualSites(by="quantity", sites=5, alpha=2.0, seed=7)
    sizes = [len(some) for some in patients_of(divided(dataset(4000), how, NEEDS))]
    drawn = np.random.default_rng(derive_seed(7, "virtual-sites", "quantity", 0)).dirichlet([2.0] * 5)
    # Ends are rounded, so a size is at most one patient away.
    assert np.abs(np.array(sizes) - 4000 * drawn).max() <= 1


@pytest.mark.parametrize("alpha", [0.2, 1.0, 10.0])
def test_shares_have_the_mean_and_the_variance_of_the_distribution(alpha: float) -> None:
    """Closed form: each share has mean 1/N and variance (1/N)(1 - 1/N)/(N alpha + 1)."""
    sites, draw = 4, np.random.default_rng(0)
    counts = np.array([shares(draw, sites, alpha, 100_000) for _ in range(4000)])
    assert np.all(counts.sum(1) == 100_000) and counts.min() >= 0
    found = counts / 100_000
    variance = (1 / sites) * (1 - 1 / sites) / (sites * alpha + 1)
    assert np.abs(found.mean(0) - 1 / sites).max() < 5 * np.sqrt(variance / 4000)
    assert np.abs(found.var(0) / variance - 1).max() < 0.15


def test_a_small_alpha_makes_classes_unlike_and_a_large_one_alike() -> None:
    def spread(alpha: float) -> float:
        sites = divided(dataset(2000, disease=ill(0.5)), VirtualSites(by="label", sites=5, alpha=alpha), NEEDS)
        shares_ill = [np.mean([one.values["disease"] == "yes" for one in site.cohort.samples]) for site in sites]
        return float(np.std(shares_ill))

    assert spread(1e5) < 0.01 < 0.15 < spread(0.3)


def test_feature_shift_cuts_the_order_of_a_column_into_equal_parts() -> None:
    whole = dataset(30, disease=ill(0.5), age=lambda number, _: float(number))
    found = patients_of(divided(whole, VirtualSites(by="feature", sites=3, column="age"), NEEDS))
    assert found == [[f"p{number:04d}" for number in range(first, first + 10)] for first in (0, 10, 20)]


def test_a_column_of_sites_gives_a_site_for_each_value_and_keeps_a_patient_whole() -> None:
    # The last visit of each third patient was elsewhere: most of the visits decide.
    def place(number: int, visit: int) -> str:
        return "St. Mary" if (number % 2 == 0) != (number % 3 == 0 and visit == 2) else "Charité 2"

    whole = dataset(12, 3, disease=ill(0.5), hospital=place)
    found = divided(whole, VirtualSites(by="site-column", column="hospital"), NEEDS)
    assert [site.name for site in found] == ["charit-2", "st-mary"]
    assert patients_of(found) == [[f"p{n:04d}" for n in range(1, 12, 2)], [f"p{n:04d}" for n in range(0, 12, 2)]]


def test_a_list_of_held_out_patients_stays_with_them() -> None:
    whole = dataset(20, disease=ill(0.5))
    held_out = ("p0003", "p0011")
    whole = SimulatedSite("whole", whole.data, whole.cohort.model_copy(update={"validation": held_out}))
    found = divided(whole, VirtualSites(by="quantity", sites=3, alpha=5.0), NEEDS)
    assert sorted(one for site in found for one in site.cohort.validation or ()) == list(held_out)


NUMBER = DataNeeds(kind="volumes", modalities=("t1",), target=ColumnNeed(name="score"))
PLAIN = DataNeeds(kind="volumes", modalities=("t1",))


@pytest.mark.parametrize(
    ("how", "needs", "words"),
    [
        ({"by": "label", "sites": 11, "alpha": 1.0}, NEEDS, "11 sites: are more than 20 patients allow, and each"),
        ({"by": "label", "sites": 2, "alpha": 0.0}, NEEDS, "alpha 0.0: is not a number above 0; give one, such as 0.5"),
        ({"by": "label", "sites": 2, "alpha": float("nan")}, NEEDS, "alpha nan: is not a number above 0"),
        ({"by": "quantity", "sites": 2}, NEEDS, "alpha None: is not a number above 0"),
        ({"by": "quantity", "sites": 0, "alpha": 1.0}, NEEDS, "division by quantity: needs a number of sites"),
        ({"by": "feature", "sites": 2, "column": "height"}, NEEDS, "column height: is not in the data; the columns"),
        ({"by": "feature", "sites": 2}, NEEDS, "division by feature: names no column"),
        ({"by": "feature", "sites": 2, "column": "age", "alpha": 1.0}, NEEDS, "has no meaning for division by feature"),
        ({"by": "site-column"}, NEEDS, "division by site-column: takes a column and no number of sites"),
        ({"by": "site-column", "column": "odd"}, NEEDS, "'!!' has no site's name of its own"),
        ({"by": "site-column", "column": "gaps"}, NEEDS, "column gaps: has no value in 10 samples; fill it"),
        ({"by": "label", "sites": 2, "alpha": 1.0}, PLAIN, "finds no class for each patient in the data"),
        ({"by": "label", "sites": 2, "alpha": 1.0}, NUMBER, "target score: is a number and no class"),
        ({"by": "label", "sites": 10, "alpha": 1e-3}, NEEDS, "gave a site fewer than 2 patients in each of 1000 draws"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_error_with_a_remedy(how: dict[str, Any], needs: DataNeeds, words: str) -> None:
    whole = dataset(20, disease=ill(0.5), age=lambda number, _: float(number), odd=lambda *_: "!!")
    gaps = [
        one.model_copy(update={"values": {**one.values, "gaps": "a"}}) if place % 2 else one
        for place, one in enumerate(whole.cohort.samples)
    ]
    cohort = Cohort(dataset="data", format="bids", samples=tuple(gaps))
    with pytest.raises(BadInput) as caught:
        divided(SimulatedSite("whole", whole.data, cohort), VirtualSites(**how), needs)
    assert words in str(caught.value) and caught.value.remedy
