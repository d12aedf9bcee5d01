"""Statistical tests of two small samples, and their power."""

import math
import warnings
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from flax_densenet.sample import Sample

_LEVEL = 0.05  # of all tests of a study together
_CONFIDENCE = 0.95
_POWER = 0.8  # share of studies in which a detectable difference is found
_MOST_PERMUTATIONS = 200_000  # 10 runs each are still exact


class Comparison(NamedTuple):
    """The comparison of two samples.

    Attributes:
      level: Largest permutation_p at which the difference counts as seen.
      means: Mean of each sample.
      deviations: Standard deviation of each sample, with n - 1.
      difference: First mean minus second.
      interval: 95 % confidence interval of the difference (Welch).
      permutation_p: Probability that the means differ as much if the runs are dealt to the two
        sides at random; exact up to 10 runs each. It assumes nothing about the distribution.
      welch_p: The same probability by Welch's t-test, which assumes normal distributions.
      smallest_p: Smallest value that permutation_p can have with so few runs.
      detectable: True difference that a t-test at the same level would find in 80 % of such
        studies.
    """

    level: float
    means: tuple[float, float]
    deviations: tuple[float, float]
    difference: float
    interval: tuple[float, float]
    permutation_p: float
    welch_p: float
    smallest_p: float
    detectable: float


def compare_samples(first: Sample, second: Sample, *, num_tests: int = 1) -> Comparison:
    """Compares the means of two samples.

    Args:
      first: At least two values.
      second: As many values.
      num_tests: Tests of the study, which share its level of 5 % evenly (Bonferroni).
    """
    deviations = first.deviation, second.deviation
    with warnings.catch_warnings():
        # Samples without any spread: interval and p are then not numbers, which is what they are.
        warnings.simplefilter("ignore", RuntimeWarning)
        welch = stats.ttest_ind(first, second, equal_var=False)
        interval = welch.confidence_interval(_CONFIDENCE)
    permutation = stats.permutation_test(
        (first, second),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        n_resamples=_MOST_PERMUTATIONS,
        vectorized=True,
        rng=0,
    )
    pooled = math.sqrt((deviations[0] ** 2 + deviations[1] ** 2) / 2)
    level = _LEVEL / num_tests
    return Comparison(
        level=level,
        means=(first.mean, second.mean),
        deviations=deviations,
        difference=first.mean - second.mean,
        interval=(float(interval.low), float(interval.high)),
        permutation_p=float(permutation.pvalue),
        welch_p=float(welch.pvalue),
        smallest_p=2 / min(math.comb(2 * len(first), len(first)), _MOST_PERMUTATIONS + 1),
        detectable=pooled * detectable_effect(len(first), level),
    )


def detectable_effect(num_runs: int, level: float) -> float:
    """Returns the difference, in standard deviations, that a t-test finds with 80 % probability.

    Args:
      num_runs: Runs on each side, at least 2.
      level: Probability of finding a difference that is not there.
    """
    freedom = 2 * num_runs - 2
    threshold = stats.t.ppf(1 - level / 2, freedom)

    def missing_power(effect: float) -> float:
        # The other tail, a difference found with the wrong sign, is far below 1 % here.
        return float(stats.nct.sf(threshold, freedom, effect * math.sqrt(num_runs / 2))) - _POWER

    return float(optimize.brentq(missing_power, 1e-3, 3 * threshold))


def verdict(comparison: Comparison, unit: str) -> str:
    """Returns what a comparison says, in words.

    Args:
      comparison: Result of `compare_samples`.
      unit: Unit of the samples, such as "nats".
    """
    level, p = comparison.level, comparison.permutation_p
    if comparison.smallest_p > level:
        return (
            f"too few runs to show any difference: p cannot be below {comparison.smallest_p:.2g}, "
            f"and {level:.2g} is asked for"
        )
    if p <= level:
        size = f"{abs(comparison.difference):.2g} {unit}"
        return f"a difference of {size} is seen: p = {p:.2g}, at most {level:.2g}"
    if not any(comparison.deviations):
        return f"no difference seen: p = {p:.2g}; all runs of each side are equal"
    return (
        f"no difference seen: p = {p:.2g}, above {level:.2g}; one below "
        f"{comparison.detectable:.2g} {unit} would often be missed"
    )
