"""`DenseNet.features` is what hooks see on PyTorch's modules of the same names."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import flax_densenet
import torch_reference
from flax_densenet import DenseNet
from flax_densenet.parity.theirs.hooks import record_outputs
from flax_densenet.parity.tolerances import TOLERANCES
from parity_tests.networks import CASES, OPTION_CASES, with_precision

NAMES = ("plain, gray, odd size", "ImageNet", "convolutions first, maximum, attention")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("float64")
def test_features_equal_those_of_pytorch(name: str) -> None:
    config, shape, _ = with_precision((CASES | OPTION_CASES)[name], "float64")
    torch.manual_seed(0)
    reference = torch_reference.DenseNet(config).double().eval()
    for key, buffer in reference.named_buffers():
        if key.endswith("running_var"):
            buffer.uniform_(0.5, 2)
        elif key.endswith("running_mean"):
            buffer.normal_()
    maps = [key for key in config.feature_names if key.startswith(("denseblock", "norm5"))]
    right = record_outputs(reference, {f"features.{key}": key for key in maps})
    image = np.random.default_rng(0).normal(size=shape)
    with torch.no_grad():
        logits = reference(torch.from_numpy(image)).numpy()
        head = maps[-1]  # without a normalization, as in the tutorial's order, nothing follows it
        last = torch.from_numpy(right[head])
        right["last"] = (torch.relu(last) if head == "norm5" else last).numpy()
    variables = flax_densenet.from_torch(reference.state_dict(), config)
    x = jnp.asarray(image.transpose(0, 2, 3, 1))
    ours: Any = DenseNet(config).apply(
        variables, x, train=False, method="features", names=config.feature_names
    )
    assert list(ours) == list(config.feature_names)
    right |= {"pooled": right["last"].mean((2, 3)), "logits": logits}
    for key, array in ours.items():
        mine = array.transpose(0, 3, 1, 2) if array.ndim == 4 else array
        atol = TOLERANCES["float64"].forward * np.abs(right[key]).max()
        np.testing.assert_allclose(mine, right[key], rtol=0, atol=atol, err_msg=key)
