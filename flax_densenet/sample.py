"""Mean, spread and range of repeated measurements."""

import math
import statistics


class Sample(tuple[float, ...]):
    """The values that one quantity had in repeated runs or steps.

    Everything but its length needs at least one value; an empty sample is false.
    """

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
        """Their standard deviation, with n - 1; 0 for a single value, which has no spread."""
        return statistics.stdev(self) if len(self) > 1 else 0.0

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; 0 for a single value."""
        return self.deviation / math.sqrt(len(self))

    def summary(self) -> dict[str, float]:
        """Returns {"min", "median", "max", "n"}; an empty dict without values."""
        if not self:
            return {}
        return {"min": min(self), "median": self.median, "max": max(self), "n": len(self)}

    def text(self, factor: float = 1, decimals: int = 2) -> str:
        """Returns mean and standard deviation, such as "1.20 ± 0.15".

        Args:
          factor: What both are multiplied by, such as 100 for per cent.
          decimals: Their decimals.
        """
        return self._text(f"{factor * self.mean:.{decimals}f}", f".{decimals}f", factor)

    def rounded(self) -> str:
        """Returns the same with three significant digits of the mean, such as "0.0123 ± 0.0041"."""
        return self._text(f"{self.mean:.3g}", ".2g")

    def _text(self, mean: str, digits: str, factor: float = 1) -> str:
        return f"{mean} ± {factor * self.deviation:{digits}}" if len(self) > 1 else mean
