"""Tests of flax_densenet/study/fields/values.py, with numbers worked out by hand."""

import pytest

from flax_densenet.sample import Sample
from flax_densenet.study.fields.values import Candidate, decide

# The best mean is 3 %, its standard error 0.41 %: the limit is 3.41 %.
BEST = Candidate(400, Sample([0.02, 0.03, 0.03, 0.04]))


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ([Candidate(100, Sample([0.033] * 4))], 1),  # within, and smaller
        ([Candidate(100, Sample([0.036] * 4))], 0),  # beyond
        ([Candidate(500, Sample([0.031] * 4))], 0),  # within, and larger
        ([Candidate(200, Sample([0.031] * 4)), Candidate(100, Sample([0.034] * 4))], 2),
        ([Candidate(100, Sample([0.034] * 4)), Candidate(100, Sample([0.032] * 4))], 2),
    ],
)
def test_the_smallest_within_one_standard_error_is_chosen(
    others: list[Candidate], chosen: int
) -> None:
    decision = decide([BEST, *others])
    assert decision.best == 0
    # Squares of 1, 0, 0, 1 sum to 2; 2 / 3 is the variance, divided by 4 that of the mean.
    assert decision.limit == pytest.approx(0.03 + 0.01 * (2 / 3 / 4) ** 0.5)
    assert decision.chosen == chosen
