"""Histograms of scores that sites add up, and the area under the ROC curve (AUC) of all cases together from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from archipel.vocabulary.bounds import MOST_BINS, Count
from archipel.vocabulary.errors import ArchipelError, ErrorCode
from archipel.vocabulary.records import Many, Record

Counts = Annotated[Many[Count], Field(min_length=2, max_length=MOST_BINS)]
"""Counts of cases by bin: equal parts of [0, 1]."""
PARTS = ("positives_from", "positives_to", "negatives_from", "negatives_to")
"""The counts of a histogram, in this order wherever they are numbers in a row."""


class ScoreHistogram(Record):
    """How many positive and how many negative cases have a score between which bins.

    Of each case it is known from which bin to which its score may be; where a bin holds enough cases that is one bin.
    Cases are counted by the first of these bins and by the last, which is all that an AUC takes, and adds up.
    ``sites`` is how many sites it is over.

    >>> one = ScoreHistogram.of([0.9, 0.4, 0.1], [1, 0, 0], bins=4)
    >>> one.positives_from, one.negatives_from
    ((0, 0, 0, 1), (1, 1, 0, 0))
    >>> (one + one).auc()
    1.0
    """

    positives_from: Counts
    positives_to: Counts
    negatives_from: Counts
    negatives_to: Counts
    sites: Count = 0

    @model_validator(mode="after")
    def _of_the_same_cases(self) -> Self:
        if len({len(getattr(self, part)) for part in PARTS}) != 1:
            raise ValueError("the four lists must be of the same bins")
        for first, last in (
            (self.positives_from, self.positives_to),
            (self.negatives_from, self.negatives_to),
        ):
            began, ended = list(accumulate(first)), list(accumulate(last))
            if began[-1] != ended[-1] or any(one < other for one, other in zip(began, ended, strict=True)):
                raise ValueError("cases cannot end before they begin, and as many must end as begin")
        return self

    @classmethod
    def of(cls, scores: Iterable[float], truth: Iterable[float], bins: int) -> ScoreHistogram:
        """Of single cases: a score from 0 to 1 and whether each is positive (1) or negative (0).

        Bins have equal widths; 1 is in the last one. Raises ArchipelError (``plan-error``, ``not-finite``) for other
        scores or truths, and unless there is one truth for each score.
        """
        known, true = [float(one) for one in scores], [float(one) for one in truth]
        if len(known) != len(true):
            cause = f"have {len(known)} scores and {len(true)} truths"
            raise ArchipelError("the cases", cause, "give one truth for each score", code=ErrorCode.PLAN_ERROR)
        counts: dict[float, list[int]] = {0.0: [0] * bins, 1.0: [0] * bins}
        for score, label in zip(known, true, strict=True):
            if not 0 <= score <= 1:
                code = ErrorCode.PLAN_ERROR if math.isfinite(score) else ErrorCode.NOT_FINITE
                remedy = "give probabilities, for example torch.sigmoid(outputs) or outputs.softmax(1)[:, 1]"
                raise ArchipelError("a score", f"is {score}, not between 0 and 1", remedy, code=code)
            if label not in counts:
                remedy = "give 1 for a positive case and 0 for a negative one"
                raise ArchipelError("the truth of a case", f"is {label}", remedy, code=ErrorCode.PLAN_ERROR)
            counts[label][min(int(score * bins), bins - 1)] += 1
        positives, negatives = tuple(counts[1.0]), tuple(counts[0.0])
        return cls(positives_from=positives, positives_to=positives, negatives_from=negatives, negatives_to=negatives)

    @property
    def bins(self) -> int:
        """In how many equal parts [0, 1] is divided."""
        return len(self.positives_from)

    @property
    def cases(self) -> tuple[int, int]:
        """How many positive and how many negative cases."""
        return sum(self.positives_from), sum(self.negatives_from)

    @property
    def is_of_bins(self) -> bool:
        """Whether of each case the one bin is known."""
        return self.positives_from == self.positives_to and self.negatives_from == self.negatives_to

    @property
    def is_of_one_site(self) -> bool:
        """Whether it is as a site sends it: of each class, runs that cover all bins once, each with its count."""
        return self.sites == 1 and all(
            _runs(first, last) is not None
            for first, last in (
                (self.positives_from, self.positives_to),
                (self.negatives_from, self.negatives_to),
            )
        )

    def __add__(self, other: ScoreHistogram) -> ScoreHistogram:
        """Of the cases of both, of the same number of bins."""

        def added(part: str) -> tuple[int, ...]:
            return tuple(one + two for one, two in zip(getattr(self, part), getattr(other, part), strict=True))

        return ScoreHistogram(sites=self.sites + other.sites, **{part: added(part) for part in PARTS})

    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest AUC that these counts allow, wherever within its bins each score is.

        It is the share of pairs in which the positive case has the higher score (Mann and Whitney 1947; Bamber 1975),
        half for equal scores. Two cases whose bins do not overlap are in a known order; of all others it could be
        either. Raises ZeroDivisionError where there are no pairs.
        """
        positive, negative = self.cases
        ended, began = list(accumulate(self.negatives_to)), list(accumulate(self.negatives_from))
        won = sum(count * ended[bin_ - 1] for bin_, count in enumerate(self.positives_from) if bin_)
        not_lost = sum(count * began[bin_] for bin_, count in enumerate(self.positives_to))
        return won / (positive * negative), not_lost / (positive * negative)

    def auc(self) -> float:
        """An estimate between the ``bounds``: half of each group at its first and half at its last bin, half for a tie.

        Where each case's bin is known, it is the area under the ROC curve by trapezoids. Raises ZeroDivisionError where
        there are no pairs.
        """
        positive, negative = self.cases
        positives = [one + two for one, two in zip(self.positives_from, self.positives_to, strict=True)]
        negatives = [one + two for one, two in zip(self.negatives_from, self.negatives_to, strict=True)]
        won = sum(
            many * (2 * below - here)
            for many, here, below in zip(positives, negatives, accumulate(negatives), strict=True)
        )
        # Every count above is doubled, and so is a won pair.
        return won / (8 * positive * negative)

    def coarsened(self, smallest: int) -> ScoreHistogram | None:
        """The same cases, of each class in runs of bins that hold at least ``smallest`` each.

        From the lowest bin on, a run ends with the bin with which it has enough; the last run takes all bins that are
        left over. So the runs cover [0, 1], and none says what the lowest or the highest score in it is. None where a
        class has cases but too few, and where there is no case. Call it where ``is_of_bins``.
        """
        runs = [_grouped(counts, smallest) for counts in (self.positives_from, self.negatives_from)]
        if None in runs or not any(runs):
            return None
        lists: list[tuple[int, ...]] = []
        for one in runs:
            first, last = [0] * self.bins, [0] * self.bins
            for start, end, count in one or ():
                first[start], last[end] = count, count
            lists += [tuple(first), tuple(last)]
        return ScoreHistogram(sites=1, **dict(zip(PARTS, lists, strict=True)))


def _grouped(counts: Sequence[int], smallest: int) -> list[tuple[int, int, int]] | None:
    """Runs of bins (first, last, cases) with enough cases each, all bins in one of them; None where all are too few."""
    runs: list[tuple[int, int, int]] = []
    start, held = 0, 0
    for bin_, count in enumerate(counts):
        held += count
        if held >= smallest:
            runs.append((start, bin_, held))
            start, held = bin_ + 1, 0
    if held and not runs:
        return None
    if runs:
        start, _, count = runs[-1]
        runs[-1] = start, len(counts) - 1, count + held
    return runs


def _runs(first: Sequence[int], last: Sequence[int]) -> list[tuple[int, int, int]] | None:
    """The runs of bins of one site (first, last, cases), where the counts are of such."""
    begins = [(bin_, count) for bin_, count in enumerate(first) if count]
    ends = [(bin_, count) for bin_, count in enumerate(last) if count]
    if [count for _, count in begins] != [count for _, count in ends]:
        return None
    runs = [(start, end, count) for (start, count), (end, _) in zip(begins, ends, strict=True)]
    whole = not runs or (runs[0][0] == 0 and runs[-1][1] == len(first) - 1)
    joined = all(one[1] + 1 == other[0] for one, other in pairwise(runs))
    return runs if whole and joined and all(start <= end for start, end, _ in runs) else None
