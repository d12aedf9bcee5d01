"""The rule by which a study recommends a value."""

from collections.abc import Sequence
from typing import NamedTuple

from flax_densenet.study.sample import Sample

RULE = (
    "the smallest network (fewest parameters) whose mean error is within one standard error of the "
    "smallest mean error; of several equally large ones, that with the smallest mean error"
)


class Candidate(NamedTuple):
    """A value that can be recommended.

    Attributes:
      parameters: Trainable parameters of its network.
      error: Errors of its runs, as shares.
    """

    parameters: int
    error: Sample


class Decision(NamedTuple):
    """What the rule says.

    Attributes:
      best: Index of the candidate with the smallest mean error.
      limit: Largest mean error that counts as equally good.
      chosen: Index of the recommended candidate.
    """

    best: int
    limit: float
    chosen: int


def decide(candidates: Sequence[Candidate]) -> Decision:
    """Applies the rule of one standard error.

    It is that of Breiman et al., "Classification and Regression Trees" (1984), section 3.4.3, with
    the standard error over seeds.

    Args:
      candidates: At least one.
    """
    numbers = range(len(candidates))
    best = min(numbers, key=lambda n: candidates[n].error.mean)
    limit = candidates[best].error.mean + candidates[best].error.standard_error
    good = [n for n in numbers if candidates[n].error.mean <= limit]
    chosen = min(good, key=lambda n: (candidates[n].parameters, candidates[n].error.mean))
    return Decision(best, limit, chosen)
