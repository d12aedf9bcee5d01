"""Tests of flax_densenet/parity/significance.py against hand counts and published tables."""

import math

import numpy as np
import pytest

from flax_densenet.parity.significance import compare_samples, detectable_effect, verdict
from flax_densenet.sample import Sample


def test_permutation_p_is_counted_by_hand() -> None:
    # 6 ways to deal 1, 2, 3, 4 to two sides of 2; two of them differ as much: 12|34 and 34|12.
    assert compare_samples(Sample([1, 2]), Sample([3, 4])).permutation_p == 2 / 6
    # 14|23 and 23|14 have equal means, so that every other way differs as much or more.
    assert compare_samples(Sample([1, 4]), Sample([2, 3])).permutation_p == 1


def test_five_runs_apart_have_the_smallest_p() -> None:
    result = compare_samples(Sample(range(5)), Sample(range(10, 15)))
    assert result.permutation_p == result.smallest_p == 2 / 252  # 10 choose 5
    assert result.difference == -10


def test_welch_interval_and_p_are_those_of_the_formula() -> None:
    first, second = Sample([1, 2, 3]), Sample([2, 4, 6])
    result = compare_samples(first, second)
    assert result.means == (2.0, 4.0)
    assert result.deviations == (1.0, 2.0)
    # Squared error 1/3 + 4/3; degrees of freedom (5/3)^2 / ((1/3)^2 + (4/3)^2) * 2 = 2.941, for
    # which tables give t(0.975) = 3.22; t = -2 / 1.291 = -1.549, of which p is 0.221.
    half = 3.219 * math.sqrt(5 / 3)
    assert result.interval == pytest.approx((-2 - half, -2 + half), abs=0.01)
    assert result.welch_p == pytest.approx(0.221, abs=0.001)


@pytest.mark.parametrize(("effect", "num_runs"), [(0.2, 393), (0.5, 64), (0.8, 26)])
def test_detectable_effect_is_that_of_cohen(effect: float, num_runs: int) -> None:
    # Cohen, "A Power Primer" (1992), table 2: n for power 0.80 at 0.05 and a small, medium and
    # large difference.
    assert detectable_effect(num_runs, 0.05) <= effect + 0.0005
    assert detectable_effect(num_runs - 1, 0.05) > effect - 0.0005


def test_detectable_difference_is_in_the_units_of_the_samples() -> None:
    sample = Sample([1, 2, 3, 4, 5])
    deviation = math.sqrt(2.5)
    effect = detectable_effect(5, 0.05)
    assert compare_samples(sample, sample).detectable == pytest.approx(effect * deviation)


def test_wrong_alarms_are_as_rare_as_promised() -> None:
    random = np.random.default_rng(0)
    pairs = random.normal(size=(300, 2, 5)).tolist()
    results = [compare_samples(*map(Sample, pair), num_tests=3) for pair in pairs]
    p = np.array([result.permutation_p for result in results])
    level = 0.05 / 3
    assert np.mean(p <= level) <= level + 5 * math.sqrt(level / len(p))
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(len(p)))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ([1, 2, 3, 4, 5], [11, 12, 13, 14, 15], "a difference of 10 nats is seen: p = 0.0079"),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 6], "no difference seen: p = 1, above 0.017; one below 4.4"),
        ([1, 1, 1, 1, 1], [1, 1, 1, 1, 1], "no difference seen: p = 1; all runs of each side are"),
        ([1, 2, 3], [4, 5, 6], "too few runs to show any difference: p cannot be below 0.1,"),
    ],
)
def test_verdict_says_what_can_be_said(first: list[int], second: list[int], words: str) -> None:
    result = compare_samples(Sample(first), Sample(second), num_tests=3)
    assert verdict(result, "nats").startswith(words)
