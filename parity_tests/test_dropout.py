"""Dropout cannot match bit for bit, but both halves drop in the same places at the same rate.

Where they are compared, it is switched off.
"""

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import linen as nn

import torch_reference
from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.parity.random_inputs import random_variables
from torch_reference.dropout import WatchedDropout

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


DROPOUTS = {
    "module": "nn.Dropout(0.2)(x)",
    "module, in place": "nn.Dropout(0.2, inplace=True)(x)",
    "channels": "nn.Dropout2d(0.2)(x)",
    "alpha": "nn.AlphaDropout(0.2)(x)",
    "function": "F.dropout(x, 0.2, training=True)",
    "function, in place": "F.dropout(x, p=0.2, inplace=True)",
    "function's default": "F.dropout(x, 0.2)",
    "inner function": "torch.dropout(x, 0.2, True)",
    "inner function, in place": "torch.dropout_(x, p=0.2, train=True)",
    "inner function for channels": "torch.feature_dropout(x, 0.2, True)",
}


@pytest.mark.parametrize("name", DROPOUTS)
def test_every_kind_of_dropout_is_switched_off(name: str) -> None:
    x = torch.ones(100, 100, 1, 1)
    names = {"x": x, "torch": torch, "nn": torch.nn, "F": torch.nn.functional}
    with WatchedDropout(off=True) as dropout:
        y = eval(DROPOUTS[name], names)
    assert torch.equal(y, torch.ones_like(x))
    assert (y is x) == ("in place" in name)
    assert dropout.rates == [0.2]
    with WatchedDropout(off=False) as dropout:
        assert not torch.equal(eval(DROPOUTS[name], names), torch.ones_like(x))
    assert dropout.rates == [0.2]


@pytest.mark.parametrize(
    "inactive", ["F.dropout(x, 0.2, False)", "nn.Dropout(0.2).eval()(x)", "nn.Dropout(0.0)(x)"]
)
def test_dropout_that_does_nothing_is_not_told(inactive: str) -> None:
    x = torch.ones(2, 2)
    with WatchedDropout(off=True) as dropout:
        eval(inactive, {"x": x, "nn": torch.nn, "F": torch.nn.functional})
    assert dropout.rates == []
