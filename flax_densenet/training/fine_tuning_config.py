"""Where a training starts from, and which parameters it trains how fast."""

import dataclasses
import math

from flax_densenet.errors import InputError, require

_NOTHING = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuningConfig:
    """Where the weights start from, and which of them are trained how fast.

    A PART of the network is what stands between dots in the names that PyTorch gives its
    parameters, such as features, denseblock4, features.denseblock1.denselayer2, classifier or bias;
    the wildcards * ? [] are allowed, as in norm?.

    Attributes:
      init_from: Start from the weights in a file or directory that `convert` reads (PyTorch,
        safetensors, Keras, Orbax, a work directory), which decides the network.
      weights: Which weights of init_from to take, by their place in it, where there are several.
      new_head: Replace the classifier by one with initial weights, as other classes need.
      freeze: Parts that are not trained: PART,PART,... or none. See docs/fine-tuning.md.
      freeze_batch_norm: Normalize by the running statistics in training, too, which stay as they
        are; scales and biases are trained unless they are frozen.
      learning_rate_factors: Factors of the learning rate, PART=FACTOR,PART=FACTOR,..., such as
        features=0.1,denseblock4=0.5; the last one that fits a parameter counts.
      init_from_sha256: Checksum of init_from, if that is a file.
    """

    init_from: str | None = None
    weights: str | None = None
    new_head: bool = False
    freeze: str = _NOTHING
    freeze_batch_norm: bool = False
    learning_rate_factors: str | None = None
    init_from_sha256: str | None = None

    def __post_init__(self) -> None:
        wanted = "a path; is a variable of the shell empty?"
        require(self.init_from != "", "init_from", self.init_from, wanted)
        needs_weights = {
            "weights": self.weights,
            "new_head": self.new_head,
            "freeze": self.frozen_parts,
            "freeze_batch_norm": self.freeze_batch_norm,
        }
        for name, value in needs_weights.items():
            if value and self.init_from is None:
                raise InputError(f"{name} (={getattr(self, name)}) needs weights: give init_from")
        _ = self.factors  # refuses what cannot be read

    @property
    def frozen_parts(self) -> tuple[str, ...]:
        """The entries of `freeze`."""
        if self.freeze == _NOTHING:
            return ()
        parts = tuple(self.freeze.split(","))
        wanted = f"{_NOTHING!r}, or PART,PART,... such as features or conv0,norm0,denseblock1"
        require(all(parts), "freeze", self.freeze, wanted)
        return parts

    @property
    def factors(self) -> tuple[tuple[str, float], ...]:
        """The entries of `learning_rate_factors`: part and factor."""
        text = self.learning_rate_factors
        return () if text is None else tuple(map(self._read_factor, text.split(",")))

    def _read_factor(self, entry: str) -> tuple[str, float]:
        part, _, word = entry.partition("=")
        try:
            factor = float(word)
        except ValueError:
            factor = math.nan
        require(
            bool(part) and 0 < factor < math.inf,
            "learning_rate_factors",
            self.learning_rate_factors,
            "PART=FACTOR,PART=FACTOR,... with factors above 0, such as "
            "features=0.1,denseblock4=0.5; freeze leaves a part as it is",
        )
        return part, factor
