"""Tests of the errors in flax_densenet/weights/table.py."""

import sys
from typing import Any

import jax
import numpy as np
import pytest

from flax_densenet import (
    DenseNetConfig,
    InputError,
    from_torch,
    initialize,
    to_torch,
    to_torch_arrays,
)

CONFIG = DenseNetConfig(blocks=(1, 1), growth_rate=2, stem_width=2, num_classes=3)


@pytest.fixture
def variables() -> dict[str, Any]:
    return initialize(CONFIG, jax.random.key(0))


@pytest.fixture
def state_dict(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    return to_torch_arrays(variables, CONFIG)


def test_torch_errors_are_all_in_one_message(state_dict: dict[str, np.ndarray]) -> None:
    del state_dict["features.conv0.weight"], state_dict["features.norm5.bias"]
    state_dict["classifier.weight.extra"] = np.zeros(3)
    state_dict["features.norm5.weight"] = np.zeros(1, np.float32)  # would broadcast
    with pytest.raises(InputError) as caught:
        from_torch(state_dict, CONFIG)
    summary, *lines = str(caught.value).splitlines()
    assert summary.startswith(
        "set of weights as torchvision or timm names them does not fit the configuration: "
    )
    assert "1 unknown (+), 1 of another shape (!); check depth" in summary
    assert lines == [
        " - features.conv0.weight",
        " - features.norm5.bias",
        " + classifier.weight.extra",
        " ! features.norm5.weight: got (1,), wanted (6,)",
    ]


def test_flax_errors_are_all_in_one_message(variables: dict[str, Any]) -> None:
    del variables["batch_stats"]["norm5"]["mean"]
    variables["params"]["conv1"] = {"kernel": np.zeros((1, 1, 2, 2))}
    variables["params"]["classifier"]["bias"] = np.zeros((3, 1))
    with pytest.raises(InputError) as caught:
        to_torch_arrays(variables, CONFIG)
    summary, *lines = str(caught.value).splitlines()
    assert summary.startswith("Flax variables does not fit the configuration: 1 missing (-)")
    assert lines == [
        " - batch_stats/norm5/mean",
        " + params/conv1/kernel",
        " ! params/classifier/bias: got (3, 1), wanted (3,)",
    ]


def test_wrong_configuration_is_refused(state_dict: dict[str, np.ndarray]) -> None:
    other = DenseNetConfig(blocks=(1, 1), growth_rate=2, stem_width=2, num_classes=4)
    with pytest.raises(InputError, match=r"classifier.bias: got \(3,\), wanted \(4,\)"):
        from_torch(state_dict, other)


def test_missing_torch_is_an_input_error(
    variables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # what an absent module looks like
    with pytest.raises(InputError, match=r"install flax-densenet\[torch\].*to_torch_arrays"):
        to_torch(variables, CONFIG)


def test_type_that_numpy_cannot_hold_is_named(state_dict: dict[str, Any]) -> None:
    class BFloat16Tensor:
        dtype = "torch.bfloat16"

        def detach(self) -> "BFloat16Tensor":
            return self

        cpu = detach

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise TypeError("Got unsupported ScalarType BFloat16")

    state_dict["classifier.bias"] = BFloat16Tensor()
    with pytest.raises(InputError, match=r"classifier.bias has dtype torch.bfloat16.*\.float\(\)"):
        from_torch(state_dict, CONFIG)
