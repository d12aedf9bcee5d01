"""Medians, ratios and the best mode of PyTorch, from the measurements."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.contestants import OURS
from benchmarks.measurement import Measurement
from flax_densenet.bench.measure import MIB
from flax_densenet.sample import Sample


class Quantity(NamedTuple):
    """A number by which contestants are compared; less is better.

    Attributes:
      name: What it is.
      unit: Its unit.
      verdict: How `ours` compares with the `best` mode of PyTorch, which takes `factor` times as
        much of it, in words.
      of: All values of a contestant.
    """

    name: str
    unit: str
    verdict: str
    of: Callable[[Measurement], list[float]]


def peak_mib(measurement: Measurement) -> list[float]:
    """Returns the peak memory in MiB: the GPU's, if that is where it was computed."""
    peak = measurement.framework_memory.get("device_peak_bytes", measurement.peak_bytes)
    return [] if peak is None else [peak / MIB]


_FASTER = "{ours} is {factor:.2f} times as fast as the best mode of PyTorch, {best}"
_SMALLER = "{best}, the smallest mode of PyTorch, needs {factor:.2f} times the memory of {ours}"
QUANTITIES = {
    "train": Quantity("training step", "s", _FASTER, lambda one: one.train_seconds),
    "eval": Quantity("evaluation step", "s", _FASTER, lambda one: one.eval_seconds),
    "train_ahead": Quantity(
        "training step, not waited for", "s", _FASTER, lambda one: one.train_ahead_seconds
    ),
    "eval_ahead": Quantity(
        "evaluation step, not waited for", "s", _FASTER, lambda one: one.eval_ahead_seconds
    ),
    "memory": Quantity("peak memory", "MiB", _SMALLER, peak_mib),
}


def shown_quantities(measurements: Sequence[Measurement]) -> dict[str, Quantity]:
    """Returns `QUANTITIES` but for what is not measured on the contestants' device.

    Args:
      measurements: All contestants.
    """
    ahead = any(one.train_ahead_seconds for one in measurements)
    return {name: one for name, one in QUANTITIES.items() if ahead or "ahead" not in name}


def ratio(
    quantity: Quantity, one: Measurement, measurements: Sequence[Measurement]
) -> float | None:
    """Returns a contestant's median as a multiple of ours of the same type.

    Args:
      quantity: What is compared.
      one: The contestant.
      measurements: All of them.

    Returns:
      Above 1 if ours is better; None if one of the two has not been measured.
    """
    ours = [other for other in measurements if other.contestant == OURS[one.dtype]]
    samples = [Sample(quantity.of(other)) for other in (one, *ours)]
    if len(samples) < 2 or not samples[0] or not samples[1]:
        return None
    return samples[0].median / samples[1].median


def best_torch(
    quantity: Quantity, dtype: str, measurements: Sequence[Measurement]
) -> Measurement | None:
    """Returns the mode of PyTorch with the smallest median, if any was measured.

    Args:
      quantity: What is compared.
      dtype: Type of the computation.
      measurements: All contestants.
    """
    medians = {
        one.contestant: values.median
        for one in measurements
        if one.contestant.startswith("torch") and one.dtype == dtype
        if (values := Sample(quantity.of(one)))
    }
    return min(
        (one for one in measurements if one.contestant in medians),
        key=lambda one: medians[one.contestant],
        default=None,
    )


def summarize(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Returns spreads, ratios and the best modes of PyTorch, to be written to a file."""
    return {
        name: {
            "unit": quantity.unit,
            "contestants": {
                one.contestant: {
                    **Sample(quantity.of(one)).summary(),
                    "ratio_to_ours": ratio(quantity, one, measurements),
                }
                for one in measurements
            },
            "best_torch": {
                dtype: best.contestant
                for dtype in OURS
                if (best := best_torch(quantity, dtype, measurements))
            },
        }
        for name, quantity in shown_quantities(measurements).items()
    }
