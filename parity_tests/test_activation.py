"""Every activation, its derivative and the gradient of its slope, against PyTorch's module.

0 is among the numbers: there the derivative of all but the smooth ones is a convention.
"""

import dataclasses
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from flax_densenet import DenseNetConfig
from flax_densenet.network.activation import PReLU, activation
from flax_densenet.network.fields import Activation
from flax_densenet.parity.tolerances import TOLERANCES
from parity_tests.halves import assert_close
from torch_reference.activation import ACTIVATIONS

_NUMBERS = np.array([-30.0, -2.5, -1.0, -1e-3, -0.0, 0.0, 1e-3, 0.7, 3.0, 30.0])


def _sum_of_squares(y: Any) -> Any:
    return (y * y + 3 * y).sum()


@pytest.mark.parametrize("name", [name for name in get_args(Activation) if name != "prelu"])
def test_activation_and_its_derivative(name: Activation, float64: None) -> None:
    function = activation(dataclasses.replace(DenseNetConfig(), activation=name), "1")
    x = torch.tensor(_NUMBERS, requires_grad=True)
    y = ACTIVATIONS[name]()(x)
    _sum_of_squares(y).backward()
    assert x.grad is not None
    ours = {
        "y": function(jnp.asarray(_NUMBERS)),
        "x": jax.grad(lambda x: _sum_of_squares(function(x)))(jnp.asarray(_NUMBERS)),
    }
    theirs = {"y": y.detach().numpy(), "x": x.grad.numpy()}
    assert_close(  # each number for itself, since small ones are next to large ones
        {f"{key}{i}": a for key, array in ours.items() for i, a in enumerate(array)},
        {f"{key}{i}": a for key, array in theirs.items() for i, a in enumerate(array)},
        TOLERANCES["float64"].forward,
    )


@pytest.mark.parametrize("slope", [None, 0.25, -0.5, 0.0, 2.0])
def test_prelu_and_the_gradient_of_its_slope(slope: float | None, float64: None) -> None:
    module, reference = PReLU("float64"), ACTIVATIONS["prelu"]().double()
    parameters: Any = module.init(jax.random.key(0), jnp.asarray(_NUMBERS))
    if slope is not None:
        parameters = {"params": {"slope": jnp.array([slope])}}
        reference.load_state_dict({"weight": torch.tensor([slope], dtype=torch.float64)})
    x = torch.tensor(_NUMBERS, requires_grad=True)
    y = reference(x)
    _sum_of_squares(y).backward()
    (weight,) = reference.parameters()
    assert x.grad is not None
    assert weight.grad is not None

    def loss(parameters: Any, x: jax.Array) -> Any:
        return _sum_of_squares(module.apply(parameters, x))

    of_parameters, of_x = jax.grad(loss, argnums=(0, 1))(parameters, jnp.asarray(_NUMBERS))
    assert_close(
        {
            "slope": parameters["params"]["slope"],
            "y": np.asarray(module.apply(parameters, jnp.asarray(_NUMBERS))),
            "x": of_x,
            "gradient": of_parameters["params"]["slope"],
        },
        {
            "slope": weight.detach().numpy(),
            "y": y.detach().numpy(),
            "x": x.grad.numpy(),
            "gradient": weight.grad.numpy(),
        },
        TOLERANCES["float64"].forward,
    )


def test_prelu_in_bfloat16_keeps_its_slope_in_float32() -> None:
    x = jnp.asarray(_NUMBERS, jnp.bfloat16)
    y, parameters = PReLU("bfloat16").init_with_output(jax.random.key(0), x)
    assert y.dtype == jnp.bfloat16
    assert parameters["params"]["slope"].dtype == jnp.float32
