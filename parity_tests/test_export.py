"""Exported networks beside PyTorch, of every variant."""

import dataclasses

import numpy as np
import pytest
import torch

import torch_reference
from flax_densenet import to_torch
from flax_densenet.export.interface import Interface
from flax_densenet.export.onnx_network import load_onnx, to_onnx
from flax_densenet.export.stablehlo import load_stablehlo, to_stablehlo
from flax_densenet.parity.random_inputs import random_variables
from flax_densenet.parity.tolerances import TOLERANCES
from parity_tests.networks import CASES, OPTION_CASES

_NETWORKS = CASES | OPTION_CASES
_COMPILED = ("ImageNet",)  # StableHLO of the others would compile the same operations once more


@pytest.mark.parametrize("name", _NETWORKS)
def test_exported_network_equals_torch(name: str) -> None:
    config, image_shape, _ = _NETWORKS[name]
    variables = random_variables(config)
    reference = torch_reference.DenseNet(config).eval()
    reference.load_state_dict(to_torch(variables, config))
    image = np.random.default_rng(0).normal(size=image_shape).astype(np.float32)  # [B, C, H, W]
    with torch.no_grad():
        wanted = reference.double()(torch.from_numpy(image).double()).numpy()
    interface = Interface(axes="BCHW", channels=config.in_channels)
    logits = [load_onnx(to_onnx(config, variables, interface, {}))(image)]
    if name in _COMPILED:
        interface = dataclasses.replace(interface, axes="BHWC")
        run = load_stablehlo(to_stablehlo(config, variables, interface))
        logits.append(run(image.transpose(0, 2, 3, 1)))
    for got in logits:
        tolerance = TOLERANCES["float32"].forward * np.abs(wanted).max()
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)
