"""The comparison of the Flax network with one in PyTorch, in several precisions.

Axes: B batch, C channels, H height, W width.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np
from torch import nn
from tqdm import tqdm

from flax_densenet.implementations.choose import Implementation
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.parity.flax_half import FlaxHalf
from flax_densenet.parity.half import SETTINGS, Batch, Precision, computing
from flax_densenet.parity.ladder import RUNGS, Check, climb
from flax_densenet.parity.random_inputs import (
    ImageShape,
    nudge,
    random_batch,
    random_pixels,
    random_variables,
)
from flax_densenet.parity.report import Layer, Section, find_layers
from flax_densenet.parity.tolerances import TOLERANCES
from flax_densenet.parity.torch_half import TorchHalf, exact_float32
from torch_reference.densenet import DenseNet

_NUM_NUDGED = 2


class Outcome(NamedTuple):
    """The result of a comparison.

    Attributes:
      sections: One for each precision.
      layers: The network's layers, with their parameters in both frameworks.
      notes: What a reader should know of the PyTorch network, in sentences.
    """

    sections: list[Section]
    layers: list[Layer]
    notes: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A comparison that is ready to run.

    Attributes:
      config: The network; each precision has its own dtype.
      variables: {"params", "batch_stats"}; None draws them at random.
      model: The PyTorch network, which gets the same weights; None is the reference.
      keys: The reference's key of each of the model's arrays; None if they are the same.
      image_shape: (B, C, H, W).
      num_steps: Steps of training; 0 leaves training out.
      seed: Of random weights and images.
      device: Where PyTorch computes.
      implementation: How the Flax network computes its blocks.
    """

    config: DenseNetConfig
    variables: dict[str, Any] | None = None
    model: nn.Module | None = None
    keys: Mapping[str, str] | None = None
    image_shape: ImageShape
    num_steps: int = 5
    seed: int = 0
    device: str = "cpu"
    implementation: Implementation = "plain"

    def run(self, precisions: Sequence[Precision] = ("float64", "float32")) -> Outcome:
        """Climbs the ladder once in each precision.

        Args:
          precisions: Keys of `SETTINGS`.
        """
        sections, layers, notes = [], [], []
        for precision in precisions:
            setting = SETTINGS[precision]
            exact = exact_float32() if setting.is_exact else nullcontext()
            with computing(setting), exact:
                config = dataclasses.replace(self.config, dtype=setting.dtype, dropout_rate=0.0)
                variables = self._variables(config)
                ours = FlaxHalf(config, variables, self.implementation)
                theirs = self._half(config, variables)
                checks = self._climb(ours, theirs, variables, precision)
            sections.append(Section(precision, setting.description, checks))
            layers = find_layers(config, checks[0].rows, ours.parameters(), theirs.parameters())
            notes = theirs.notes + self._own_notes
        return Outcome(sections, layers, notes)

    @property
    def _own_notes(self) -> list[str]:
        if self.implementation == "plain":
            return []
        return [
            f"the {self.implementation} implementation shows no output before the classifier; "
            "gradients and running statistics are compared in every layer"
        ]

    def _climb(
        self, ours: FlaxHalf, theirs: TorchHalf, variables: dict[str, Any], precision: Precision
    ) -> list[Check]:
        batch = random_batch(ours.config, self.image_shape, self.seed + 1)
        checks = climb(
            ours,
            theirs,
            TOLERANCES[ours.config.dtype],
            batch,
            random_pixels(ours.config, self.image_shape, self.num_steps),
            nudged=[
                (
                    self._half(ours.config, nudge(variables, seed)),
                    Batch(nudge(batch.image, seed), batch.label),
                )
                for seed in range(_NUM_NUDGED)
            ],
        )
        number = sum(rung.phase != "steps" or self.num_steps > 0 for rung in RUNGS)
        # tqdm shows its bar in a terminal only.
        return list(tqdm(checks, precision, number, leave=False, disable=None))

    def _variables(self, config: DenseNetConfig) -> dict[str, Any]:
        variables = self.variables or random_variables(config, self.seed)
        return jax.tree.map(lambda array: np.asarray(array).astype(config.dtype), variables)

    def _half(self, config: DenseNetConfig, variables: dict[str, Any]) -> TorchHalf:
        model = DenseNet(config) if self.model is None else self.model
        return TorchHalf(model, config, variables, self.keys, self.device)
