"""Where two networks are compared, dropout is switched off, however it is written."""

import pytest
import torch

from flax_densenet.parity.theirs.hooks import WatchedDropout

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
