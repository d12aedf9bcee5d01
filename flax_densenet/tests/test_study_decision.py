"""Tests of flax_densenet/study/fields/values.py and sample.py, with numbers worked out by hand."""

import pytest

from flax_densenet.study.fields.values import Candidate, decide
from flax_densenet.study.result import Sample


def test_a_sample_has_mean_deviation_and_standard_error() -> None:
    sample = Sample([1.0, 2.0, 6.0])  # squares of 2, 1 and 3 sum to 14; 14 / 2 = 7
    assert sample.mean == 3
    assert sample.median == 2
    assert sample.deviation == pytest.approx(7**0.5)
    assert sample.standard_error == pytest.approx((7 / 3) ** 0.5)
    assert sample.text(10, 1) == "30.0 ± 26.5"


def test_a_single_run_has_no_spread() -> None:
    sample = Sample([0.25])
    assert (sample.deviation, sample.standard_error) == (0, 0)
    assert sample.text(100) == "25.00"


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
