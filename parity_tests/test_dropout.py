"""Dropout cannot match bit for bit, but both halves drop in the same places at the same rate."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import linen as nn

import torch_reference
from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.data.batches import TrainBatch
from flax_densenet.parity.random_inputs import random_variables
from parity_tests.dropout_masks import (
    Masks,
    assert_independent,
    assert_rate_and_scale,
    flax_masks,
    torch_masks,
)

_RATE = 0.2
_CONFIGS = {
    "plain": DenseNetConfig(depth=7, growth_rate=3, dropout_rate=_RATE),
    "BC": DenseNetConfig(
        depth=10, growth_rate=3, bottleneck=True, compression=0.5, dropout_rate=_RATE
    ),
    "ImageNet": DenseNetConfig(
        blocks=(1, 2),
        growth_rate=3,
        bottleneck=True,
        compression=0.5,
        stem="imagenet",
        dropout_rate=_RATE,
    ),
}
# After every convolution but the first (paper, section 3), or after the 3x3 ones (torchvision).
_NUM_DROPOUTS = {"plain": 3 + 2, "BC": 3 * 2 + 2, "ImageNet": 3}


@pytest.mark.parametrize("name", _CONFIGS)
def test_both_halves_drop_the_same_arrays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _CONFIGS[name]
    ours: list[tuple[tuple[int, ...], float]] = []
    theirs: list[tuple[tuple[int, ...], float]] = []

    def record_ours(module: nn.Module, x: jax.Array, **kwargs: bool) -> jax.Array:
        assert kwargs == {"deterministic": False}
        ours.append((tuple(np.array(x.shape)[[0, 3, 1, 2]].tolist()), module.rate))
        return x

    def record_theirs(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
        assert training
        theirs.append((tuple(x.shape), p))
        return x

    monkeypatch.setattr(nn.Dropout, "__call__", record_ours)
    monkeypatch.setattr(F, "dropout", record_theirs)
    image = np.zeros((2, 3, 16, 16), np.float32)
    DenseNet(config).apply(
        random_variables(config), image.transpose(0, 2, 3, 1), train=True, mutable=["batch_stats"]
    )
    torch_reference.DenseNet(config).train()(torch.from_numpy(image))
    assert ours == theirs
    assert len(ours) == _NUM_DROPOUTS[name]
    assert {rate for _, rate in ours} == {_RATE}


_NETWORK = DenseNetConfig(
    blocks=(1, 1), growth_rate=8, bottleneck=True, compression=0.5, dropout_rate=_RATE
)
_MASKS: dict[str, Callable[[DenseNetConfig, TrainBatch], Masks]] = {
    "flax": flax_masks,
    "torch": torch_masks,
}


def _batch() -> TrainBatch:
    random = np.random.default_rng(0)
    image = random.integers(256, size=(8, 16, 16, 3)).astype(np.uint8)
    return {"image": image, "label": random.integers(10, size=8).astype(np.int32)}


@pytest.fixture(scope="module", params=_MASKS)
def masks(request: pytest.FixtureRequest) -> Masks:
    """The masks of two real training steps of either half."""
    return _MASKS[request.param](_NETWORK, _batch())


def test_every_layer_keeps_and_scales_as_it_should(masks: Masks) -> None:
    assert len(masks.arrays) == 2 + 1 + 2
    assert_rate_and_scale(masks, _RATE)


def test_layers_steps_examples_channels_and_pixels_are_independent(masks: Masks) -> None:
    assert_independent(masks)


def test_a_key_shared_by_the_layers_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def key_of_the_step(module: nn.Dropout, name: str) -> jax.Array:
        return module.scope.rngs[name].rng  # type: ignore[union-attr]

    monkeypatch.setattr(nn.Dropout, "make_rng", key_of_the_step)
    shared = flax_masks(_NETWORK, _batch())
    assert_rate_and_scale(shared, _RATE)
    with pytest.raises(AssertionError, match=r"layers 0, 1 are correlated: 1\.000"):
        assert_independent(shared)


_DROPOUT = F.dropout


def _reseeded(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    torch.manual_seed(0)
    return _DROPOUT(x, p, training)


def _of_first_example(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    return x * _DROPOUT(torch.ones_like(x[:1]), p, training)


@pytest.mark.parametrize(
    ("mistake", "correlated"),
    [
        (_reseeded, "steps of layer 0"),
        (_of_first_example, "examples of layer 0"),
        (F.dropout2d, "pixels of layer 0"),
    ],
)
def test_dependence_is_caught(
    mistake: Callable[..., torch.Tensor], correlated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(F, "dropout", mistake)
    with pytest.raises(AssertionError, match=f"{correlated} are correlated"):
        assert_independent(torch_masks(_NETWORK, _batch()))


def test_another_rate_is_caught() -> None:
    wrong = torch_masks(dataclasses.replace(_NETWORK, dropout_rate=0.25), _batch())
    with pytest.raises(AssertionError, match="values of layer 0"):
        assert_rate_and_scale(wrong, _RATE)
    as_if_scaled = [np.where(mask != 0, np.float32(1.25), mask) for mask in wrong.arrays]
    with pytest.raises(AssertionError, match="kept share of layer 0"):
        assert_rate_and_scale(wrong._replace(arrays=as_if_scaled), _RATE)
