"""Class activation maps: exact for the logits, and Grad-CAM as PyTorch's gradients give it."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import flax_densenet
import torch_reference
from flax_densenet import DenseNet, DenseNetConfig, InputError
from flax_densenet.explanation.activation_maps import class_activation_map, gradient_activation_map
from flax_densenet.parity.tolerances import TOLERANCES

CONFIG = DenseNetConfig(
    depth=16,
    growth_rate=3,
    bottleneck=True,
    compression=0.5,
    num_classes=4,
    in_channels=1,
    dtype="float64",
)
CLASSES = np.array([3, 0])
ATOL = TOLERANCES["float64"].forward


@pytest.fixture(scope="module")
def reference() -> torch_reference.DenseNet:
    torch.manual_seed(0)
    reference = torch_reference.DenseNet(CONFIG).double().eval()
    for name, buffer in reference.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    torch.nn.init.normal_(reference.classifier.bias)
    return reference


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 1, 9, 12))


def inputs(reference: torch_reference.DenseNet, image: np.ndarray) -> tuple[Any, ...]:
    variables = flax_densenet.from_torch(reference.state_dict(), CONFIG)
    x = jnp.asarray(image.transpose(0, 2, 3, 1))
    return DenseNet(CONFIG), variables, x, jnp.asarray(CLASSES)


@pytest.mark.usefixtures("float64")
def test_mean_of_the_map_plus_bias_is_the_logit(
    reference: torch_reference.DenseNet, image: np.ndarray
) -> None:
    found = class_activation_map(*inputs(reference, image))
    assert found.shape == (2, 2, 3)
    with torch.no_grad():
        logits = reference(torch.from_numpy(image)).numpy()
        bias = reference.classifier.bias.numpy()
    right = logits[np.arange(2), CLASSES]
    ours = np.asarray(found).mean((1, 2)) + bias[CLASSES]
    np.testing.assert_allclose(ours, right, rtol=0, atol=ATOL * np.abs(right).max())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("layer", ["denseblock2", "norm5"])
def test_gradient_maps_are_those_of_pytorch(
    layer: str, reference: torch_reference.DenseNet, image: np.ndarray
) -> None:
    outputs = []
    hook = reference.features.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: outputs.append(output)
    )
    logits = reference(torch.from_numpy(image))
    hook.remove()
    chosen = logits[torch.arange(2), torch.from_numpy(CLASSES)].sum()
    (gradient,) = torch.autograd.grad(chosen, outputs[0])
    # Selvaraju et al., equations 1 and 2.
    weight = gradient.mean((2, 3), keepdim=True)
    right = torch.relu((weight * outputs[0]).sum(1)).detach().numpy()
    found = gradient_activation_map(*inputs(reference, image), layer=layer)
    np.testing.assert_allclose(found, right, rtol=0, atol=ATOL * right.max())
    assert right.max() > 0


def test_other_layers_and_implementations_are_refused(
    reference: torch_reference.DenseNet, image: np.ndarray
) -> None:
    config = dataclasses.replace(CONFIG, dtype="float32")
    _, variables, x, classes = inputs(reference, image)
    with pytest.raises(InputError, match=r"layer \(='conv0'\) must be one of denseblock1, .*norm5"):
        gradient_activation_map(DenseNet(config), variables, x, classes, layer="conv0")
    with pytest.raises(InputError, match="shows no feature maps; use auto"):
        class_activation_map(DenseNet(config, implementation="blocked"), variables, x, classes)
