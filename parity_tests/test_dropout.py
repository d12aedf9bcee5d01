"""Dropout cannot match bit for bit, but both halves drop in the same places at the same rate."""

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import linen as nn

import torch_reference
from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.parity.random_inputs import random_variables

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


def test_kept_share_and_scale_are_those_of_torch() -> None:
    x = np.ones((50, 40, 40), np.float32)
    ours = np.asarray(nn.Dropout(_RATE).apply({}, x, False, rngs={"dropout": jax.random.key(0)}))
    theirs = F.dropout(torch.from_numpy(x), _RATE, True).numpy()
    # 80,000 independent decisions: the standard deviation of the share is 0.0014.
    for y in (ours, theirs):
        assert set(np.unique(y).tolist()) == {0.0, np.float32(1 / (1 - _RATE)).item()}
        assert np.mean(y != 0) == pytest.approx(1 - _RATE, abs=5 * 0.0014)
