"""Tests of flax_densenet/sample.py, with numbers worked out by hand."""

import pytest

from flax_densenet.sample import Sample


def test_a_sample_has_mean_deviation_and_standard_error() -> None:
    sample = Sample([1.0, 2.0, 6.0])  # squares of 2, 1 and 3 sum to 14; 14 / 2 = 7
    assert sample.mean == 3
    assert sample.median == 2
    assert sample.deviation == pytest.approx(7**0.5)
    assert sample.standard_error == pytest.approx((7 / 3) ** 0.5)
    assert sample.text(10, 1) == "30.0 ± 26.5"
    assert sample.rounded() == "3 ± 2.6"


def test_a_single_value_has_no_spread() -> None:
    sample = Sample([0.25])
    assert (sample.deviation, sample.standard_error) == (0, 0)
    assert (sample.text(100), sample.rounded()) == ("25.00", "0.25")


def test_summary_is_smallest_middle_and_largest_value_and_their_number() -> None:
    assert Sample([4, 1, 2, 9]).summary() == {"min": 1, "median": 3, "max": 9, "n": 4}
    assert Sample([]).summary() == {}
