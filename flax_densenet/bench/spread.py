"""What is told of repeated measurements."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

MIB = 2**20


class Spread(NamedTuple):
    """Smallest, middle and largest of some values, and how many there are."""

    min: float
    median: float
    max: float
    n: int


def spread(values: Sequence[float]) -> Spread | None:
    """Returns the spread of some values, None without any."""
    if not values:
        return None
    return Spread(min(values), statistics.median(values), max(values), len(values))
