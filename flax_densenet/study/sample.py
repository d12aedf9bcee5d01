"""Several runs of the same thing: mean and spread."""

import math
import statistics


class Sample(tuple[float, ...]):
    """The values of runs that differ in their seed alone, at least one."""

    __slots__ = ()

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self)

    @property
    def median(self) -> float:
        """Their median."""
        return statistics.median(self)

    @property
    def deviation(self) -> float:
        """Their standard deviation, with n - 1; 0 for a single run, which has no spread."""
        return statistics.stdev(self) if len(self) > 1 else 0.0

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; 0 for a single run."""
        return self.deviation / math.sqrt(len(self))

    def text(self, factor: float = 1, decimals: int = 2) -> str:
        """Returns mean and standard deviation, such as "1.20 ± 0.15".

        Args:
          factor: What both are multiplied by, such as 100 for per cent.
          decimals: Their decimals.
        """
        text = f"{factor * self.mean:.{decimals}f}"
        return f"{text} ± {factor * self.deviation:.{decimals}f}" if len(self) > 1 else text
