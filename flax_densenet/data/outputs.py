"""What a network's outputs stand for: a record that travels with the weights.

Axes: B batch, K outputs.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from flax_densenet.errors import InputError, require

Reading = Literal["one_class", "several_labels"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs:
    """How outputs become scores.

    Attributes:
      reading: "one_class" if every image belongs to one class: softmax. "several_labels" if each
        output is a label by itself: sigmoid.
      operating_points: For each of several labels, the probability that becomes the score 0.5; None
        for a label that was never trained. None for all if probabilities are the scores.

    Raises:
      InputError: There are operating points for one class, or one is no probability.
    """

    reading: Reading = "one_class"
    operating_points: tuple[float | None, ...] | None = None

    def __post_init__(self) -> None:
        readings = get_args(Reading)
        require(self.reading in readings, "reading", self.reading, f"one of {readings}")
        if self.operating_points is None:
            return
        points = tuple(self.operating_points)  # JSON has lists only
        object.__setattr__(self, "operating_points", points)
        if not self.has_several_labels:
            raise InputError(
                f"operating_points (={points}) are for several labels and reading is one_class; "
                "leave them out"
            )
        for point in points:
            require(point is None or 0 < point < 1, "operating_points", points, "numbers in (0, 1)")

    @property
    def has_several_labels(self) -> bool:
        """Whether each output is a label by itself."""
        return self.reading == "several_labels"

    def is_trained(self, index: int) -> bool:
        """Returns whether an output was trained, as far as the operating points say."""
        return self.operating_points is None or self.operating_points[index] is not None

    @property
    def description(self) -> str:
        """What a score is, for people."""
        if not self.has_several_labels:
            return "probability of the class among all"
        if self.operating_points is None:
            return "each label by itself: its probability"
        return "each label by itself: a score, 0.5 at its operating point"

    def formatted(self, score: float) -> str:
        """Returns a score for people: a probability in percent, or a score above or below 0.5."""
        return f"{score:.2%}" if self.operating_points is None else f"{score:.4f}"

    def without_operating_points(self) -> "Outputs":
        """Returns the same with probabilities as scores."""
        return dataclasses.replace(self, operating_points=None)

    def scores(self, logits: Float[np.ndarray, "*B K"]) -> Float[np.ndarray, "*B K"]:
        """Returns the scores, each in 0 to 1.

        With an operating point t, a probability p becomes p / 2t below it, and 1 - (1-p) / 2(1-t)
        from it on, as in torchxrayvision; the score of a label that was not trained is 0.5.

        Args:
          logits: What the network returns.
        """
        logits = np.asarray(logits, np.float64)
        if not self.has_several_labels:
            with np.errstate(invalid="ignore"):  # infinite logits have no probabilities
                return np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
        p = np.exp(-np.logaddexp(0, -logits))
        if self.operating_points is None:
            return p
        t = np.array([np.nan if one is None else one for one in self.operating_points])
        scores = np.where(p < t, p / (2 * t), 1 - (1 - p) / (2 * (1 - t)))
        return np.where(np.isnan(t), 0.5, scores)

    def to_record(self) -> dict[str, Any]:
        """Returns the record as JSON holds it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Outputs":
        """Reads what `to_record` returned.

        Raises:
          TypeError: The record has other fields, or values of other types.
          InputError: A value is out of range.
        """
        return cls(**record)
