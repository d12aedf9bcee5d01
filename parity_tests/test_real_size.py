"""Networks of real size, once each."""

import dataclasses

import jax
import numpy as np
import pytest
import torch

import torch_reference
from flax_densenet import VARIANTS, from_torch
from flax_densenet.parity.flax_half import FlaxHalf
from flax_densenet.parity.random_inputs import random_pixels, random_variables
from flax_densenet.parity.tolerances import TOLERANCES
from parity_tests.halves import assert_close, reference_half


def test_densenet121_agrees_at_224_pixels() -> None:
    config, tolerance = VARIANTS["densenet121"], TOLERANCES["float32"].forward
    torch.manual_seed(0)
    variables = from_torch(torch_reference.DenseNet(config).state_dict(), config)
    image = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    ours = FlaxHalf(config, variables).forward(image)
    assert_close(ours, reference_half(config, variables).forward(image), tolerance)


@pytest.mark.slow
def test_one_training_step_of_densenet_bc_100_12_agrees() -> None:
    # In float32 each half's gradient of conv0 is 0.1 to 0.7 % from the float64 one, since a few of
    # ten million activations next to 0 change their sign; so the step is compared in float64.
    with jax.enable_x64(True):
        config = dataclasses.replace(VARIANTS["densenet-bc-100-12"], dtype="float64")
        variables, tolerance = random_variables(config), TOLERANCES["float64"]
        batches = random_pixels(config, (16, 3, 32, 32), num_steps=1)
        ours = FlaxHalf(config, variables).train(batches)
        theirs = reference_half(config, variables).train(batches)
        assert_close(ours.losses, theirs.losses, tolerance.training)
        assert_close(ours.weights, theirs.weights, tolerance.training)
        assert_close(ours.momentum, theirs.momentum, tolerance.gradient)
