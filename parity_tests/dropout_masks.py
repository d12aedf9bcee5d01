"""The dropout masks of real training steps in both halves, and what is asserted of them.

Axes: S steps, B batch, C channels, H height, W width.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import linen as nn

from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.data.batches import TrainBatch
from flax_densenet.training import Preprocess, create_state, sgd, train_step
from torch_reference import step as torch_step
from torch_reference.preprocess import Preprocess as TorchPreprocess

_STEPS = 2
_LEARNING_RATE = 0.01
_MEAN, _STD = (128.0,) * 3, (64.0,) * 3
# How far a share or a correlation may be from its expectation, in standard deviations: chance alone
# goes beyond it in 1 of 1,700,000 numbers, and some thousands are looked at, of fixed seeds.
_DEVIATIONS = 5


class Masks(NamedTuple):
    """What every dropout multiplied with, in forward order.

    Attributes:
      arrays: One for each dropout, [S, B, H, W, C] or [S, B, C, H, W], in the order of the memory.
      channel_axis: Axis of C.
    """

    arrays: list[np.ndarray]
    channel_axis: int


def flax_masks(config: DenseNetConfig, batch: TrainBatch) -> Masks:
    """Returns the masks of two training steps of the Flax network."""
    seen: list[np.ndarray] = []
    dropout: Any = nn.Dropout.__call__

    def recording(module: nn.Dropout, x: jax.Array, **mode: bool) -> jax.Array:
        mask = dropout(module, jnp.ones_like(x), **mode)
        jax.debug.callback(lambda mask: seen.append(np.array(mask)), mask, ordered=True)
        return x * mask

    state = create_state(
        DenseNet(config), sgd(_LEARNING_RATE, 0), Preprocess(_MEAN, _STD, "none"), seed=0
    )
    compiled: Callable[[Any], Any] = jax.jit(lambda state: train_step(state, batch)[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Dropout, "__call__", recording)
        for _ in range(_STEPS):
            state = compiled(state)
        jax.effects_barrier()
    return Masks(_by_layer(seen), channel_axis=-1)


def torch_masks(config: DenseNetConfig, batch: TrainBatch) -> Masks:
    """Returns the masks of two training steps of the PyTorch reference."""
    seen: list[np.ndarray] = []
    dropout: Callable[..., torch.Tensor] = F.dropout

    def recording(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
        mask = dropout(torch.ones_like(x), p, training)
        seen.append(mask.numpy())
        return x * mask

    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        preprocess = TorchPreprocess(_MEAN, _STD, "none")
        state = torch_step.create_state(config, lambda step: _LEARNING_RATE, preprocess, seed=0)
        patch.setattr(F, "dropout", recording)
        for _ in range(_STEPS):
            torch_step.train_step(state, batch)
    return Masks(_by_layer(seen), channel_axis=2)


def _by_layer(seen: list[np.ndarray]) -> list[np.ndarray]:
    num_layers = len(seen) // _STEPS
    return [np.stack(seen[layer::num_layers]) for layer in range(num_layers)]


def assert_rate_and_scale(masks: Masks, rate: float) -> None:
    """Asserts that every layer keeps 1 - rate and scales what it keeps by 1 / (1 - rate)."""
    for layer, mask in enumerate(masks.arrays):
        values = set(np.unique(mask).tolist())
        assert values == {0.0, np.float32(1 / (1 - rate)).item()}, f"values of layer {layer}"
        allowed = _DEVIATIONS * math.sqrt(rate * (1 - rate) / mask.size)
        assert abs(np.mean(mask != 0) - (1 - rate)) < allowed, f"kept share of layer {layer}"


def assert_independent(masks: Masks) -> None:
    """Asserts that no two layers, steps, examples, channels or neighboring pixels are alike."""
    for layer, mask in enumerate(masks.arrays):
        channels = np.moveaxis(mask, masks.channel_axis, 0)  # [C, S, B, H, W]
        neighbors = np.stack([channels[..., :-1], channels[..., 1:]])
        for axis, units in (
            ("pixels", neighbors),
            ("steps", mask),
            ("examples", np.swapaxes(mask, 0, 1)),
            ("channels", channels),
        ):
            _assert_uncorrelated(units.reshape(len(units), -1), f"{axis} of layer {layer}")
    for first, second in itertools.combinations(range(len(masks.arrays)), 2):
        pair = [masks.arrays[layer][0].ravel() for layer in (first, second)]
        # Of unequal sizes, the values drawn first are compared.
        size = min(map(len, pair))
        _assert_uncorrelated(np.stack([mask[:size] for mask in pair]), f"layers {first}, {second}")


def _assert_uncorrelated(rows: np.ndarray, what: str) -> None:
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    largest = float(np.max(np.abs(correlation)))
    allowed = _DEVIATIONS / math.sqrt(rows.shape[1])
    # "not <" instead of ">=" so that a constant row, whose correlation is NaN, fails.
    assert largest < allowed, f"{what} are correlated: {largest:.3f}, allowed {allowed:.3f}"
