"""What each option means, by networks that must be equal with it and without it.

The ladder shows that Flax computes the same as PyTorch; here PyTorch's modules are the measure.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torch_reference
from flax_densenet import DenseNetConfig

_CONFIG = DenseNetConfig(blocks=(2, 1), growth_rate=4, bottleneck=True, compression=0.5)
State = dict[str, Tensor]


def _with(**options: Any) -> DenseNetConfig:
    return dataclasses.replace(_CONFIG, **options)


def _state(config: DenseNetConfig) -> State:
    """Weights and statistics none of which is at its initial value."""
    torch.manual_seed(0)
    state = torch_reference.DenseNet(config).double().state_dict()
    for key, value in state.items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.add_(0.2 * torch.randn_like(value))
    return state


def _logits(config: DenseNetConfig, state: State) -> Tensor:
    model = torch_reference.DenseNet(config).double().eval()
    model.load_state_dict(state)
    torch.manual_seed(1)
    with torch.no_grad():
        return model(torch.randn(2, 3, 9, 8, dtype=torch.float64))


def _slopes(slope: float) -> Callable[[State], State]:
    def change(state: State) -> State:
        return {k: torch.full_like(v, slope) if "prelu" in k else v for k, v in state.items()}

    return change


def _without(part: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if part not in key}


def _inner_pixels(state: State) -> State:
    return {k: v[:, :, 1:-1, 1:-1] if k.endswith("conv2.weight") else v for k, v in state.items()}


def _zero_ring(state: State) -> State:
    return {
        k: F.pad(v[:, :, 1:-1, 1:-1], (1, 1, 1, 1)) if k.endswith("conv2.weight") else v
        for k, v in state.items()
    }


def _one_group(state: State) -> State:
    def join(kernel: Tensor) -> Tensor:
        first, second = kernel.chunk(2)
        zeros = torch.zeros_like(first)
        return torch.cat([torch.cat([first, zeros], 1), torch.cat([zeros, second], 1)])

    return {k: join(v) if k.endswith("conv2.weight") else v for k, v in state.items()}


def _all_weights_half(state: State) -> State:
    """Squeeze-and-excitation gives sigmoid(0), whatever the image."""
    return {k: torch.zeros_like(v) if "attention.fc2" in k else v for k, v in state.items()}


def _half_kernels(state: State) -> State:
    return {
        k: v / 2 if k.endswith("conv2.weight") else v
        for k, v in state.items()
        if "attention" not in k
    }


def _same(state: State) -> State:
    return state


_EQUAL = {
    "PReLU of slope 0 is ReLU": (_with(activation="prelu"), _slopes(0), {}, _without("prelu")),
    "PReLU of slope 0.01 is leaky ReLU": (
        _with(activation="prelu"),
        _slopes(0.01),
        {"activation": "leaky_relu"},
        _without("prelu"),
    ),
    "5x5 with a ring of zeros is 3x3": (_with(kernel_size=5), _zero_ring, {}, _inner_pixels),
    "two groups are a kernel of two blocks": (_with(groups=2), _same, {}, _one_group),
    "attention without weights halves": (
        _with(attention="se", attention_reduction=2),
        _all_weights_half,
        {},
        _half_kernels,
    ),
}


@pytest.mark.parametrize("name", _EQUAL)
def test_special_case_of_an_option_is_the_network_without_it(name: str) -> None:
    config, special, other, converted = _EQUAL[name]
    state = special(_state(config))
    torch.testing.assert_close(
        _logits(config, state),
        _logits(_with(**other), converted(state)),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", [name for name in _EQUAL if "groups" not in name])
def test_otherwise_it_is_another_network(name: str) -> None:
    config, _, other, converted = _EQUAL[name]
    state = _state(config)
    before, after = _logits(config, state), _logits(_with(**other), converted(state))
    assert (before - after).abs().max() > 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "leaky_relu"},
        {"activation": "sigmoid"},
        {"activation": "tanh"},
        {"transition_pool": "max"},
    ],
    ids=str,
)
def test_option_without_weights_changes_the_output(options: dict[str, Any]) -> None:
    state = _state(_CONFIG)
    difference = _logits(_with(**options), state) - _logits(_CONFIG, state)
    assert difference.abs().max() > 1e-3


def test_convolutions_come_first_if_asked_for() -> None:
    config = dataclasses.replace(_with(order="conv-norm-act"), blocks=(1,), bottleneck=False)
    model = torch_reference.DenseNet(config).double().eval()
    model.load_state_dict(_state(config))
    image = torch.randn(2, 3, 5, 4, dtype=torch.float64)

    def unit(path: str, number: int, x: Tensor) -> Tensor:
        x = F.conv2d(x, state[f"{path}conv{number}.weight"], padding=1)
        mean, var, weight, bias = (state[f"{path}norm{number}.{name}"] for name in names)
        return F.relu(F.batch_norm(x, mean, var, weight, bias, eps=config.batch_norm_epsilon))

    state, names = model.state_dict(), ("running_mean", "running_var", "weight", "bias")
    x = unit("features.", 0, image)
    x = torch.cat([x, unit("features.denseblock1.denselayer1.", 1, x)], dim=1)
    logits = F.linear(x.mean((2, 3)), state["classifier.weight"], state["classifier.bias"])
    torch.testing.assert_close(model(image), logits, rtol=1e-12, atol=1e-12)
