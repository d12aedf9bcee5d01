"""The two halves of a comparison with somebody else's network, in float64 on small images."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from flax_densenet import DenseNetConfig
from flax_densenet.parity.flax_half import FlaxHalf
from flax_densenet.parity.half import Batch, Half, Observation, Trained
from flax_densenet.parity.ladder import Check, climb
from flax_densenet.parity.random_inputs import random_batch, random_pixels, random_variables
from flax_densenet.parity.theirs.counterpart import Counterpart
from flax_densenet.parity.tolerances import TOLERANCES
from flax_densenet.parity.torch_half import TorchHalf

NETWORKS = Path(__file__).parent / "other_networks"
_BATCH_SIZE, _IMAGE_SIZE = 4, 32
BC = DenseNetConfig(depth=16, growth_rate=4, bottleneck=True, compression=0.5)
BC_TWO_BLOCKS = DenseNetConfig(blocks=(2, 2), growth_rate=4, bottleneck=True, compression=0.5)
IMAGENET = dataclasses.replace(BC_TWO_BLOCKS, stem="imagenet")


class Halves(NamedTuple):
    """The Flax network and somebody else's, with the same random weights."""

    ours: Half
    theirs: TorchHalf
    batch: Batch


def halves(counterpart: Counterpart) -> Halves:
    """Returns both halves in float64, with random weights and images."""
    config = dataclasses.replace(counterpart.config, dtype="float64")
    variables = random_variables(config)
    theirs = TorchHalf(counterpart.model, config, variables, counterpart.keys)
    return Halves(_FlaxOnce(config, variables), theirs, _batch(config))


def climb_with(both: Halves, num_steps: int = 0) -> Iterator[Check]:
    """Climbs the ladder, as `climb` does."""
    steps = _steps(both.theirs.config, num_steps)
    return climb(both.ours, both.theirs, TOLERANCES["float64"], both.batch, steps)


class _FlaxOnce(FlaxHalf):
    """The Flax half, which computes everything once for each configuration, to save time."""

    def observe(self, batch: Batch, *, train: bool) -> Observation:
        return _observe(self.config, train)

    def train(self, batches: Sequence[Batch]) -> Trained:
        return _train(self.config, len(batches))


@functools.cache
def _observe(config: DenseNetConfig, train: bool) -> Observation:
    return FlaxHalf(config, random_variables(config)).observe(_batch(config), train=train)


@functools.cache
def _train(config: DenseNetConfig, num_steps: int) -> Trained:
    return FlaxHalf(config, random_variables(config)).train(_steps(config, num_steps))


def _batch(config: DenseNetConfig) -> Batch:
    return random_batch(config, (_BATCH_SIZE, config.in_channels, _IMAGE_SIZE, _IMAGE_SIZE))


def _steps(config: DenseNetConfig, num_steps: int) -> list[Batch]:
    image_shape = (_BATCH_SIZE, config.in_channels, _IMAGE_SIZE, _IMAGE_SIZE)
    return random_pixels(config, image_shape, num_steps)
