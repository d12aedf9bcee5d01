"""Every rung of the ladder holds for every tiny network, in float64 and in float32.

They are every module's output, by name, in evaluation and in training; the loss and its gradient
for the image and every parameter; running statistics; and ten steps of training, with
learning-rate drops inside, which leave both halves in the same state. The same holds for every
formulation, of which only the plain one shows the outputs inside of blocks.
"""

import functools

import pytest

from flax_densenet.formulation import Formulation
from flax_densenet.layers import weight_layers
from flax_densenet.parity.divergence import find_divergence
from flax_densenet.parity.flax_half import FlaxHalf
from flax_densenet.parity.ladder import RUNGS, Check, Rung, climb
from flax_densenet.parity.random_inputs import random_batch, random_pixels, random_variables
from flax_densenet.parity.tolerances import TOLERANCES
from parity_tests.networks import Case
from torch_reference.half import reference_half

_NUM_STEPS = 10


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.title)
@pytest.mark.parametrize("formulation", ["plain", "cache_blocked"])
def test_every_array_of_the_rung_agrees(
    case: Case, formulation: Formulation, rung: Rung, small_chunks: None
) -> None:
    check = _climbed(case, formulation)[rung.title]
    assert check.agrees, find_divergence(check)
    # Without the allowance for measured rounding, which only the command makes.
    assert all(row.rounding is None for row in check.rows)


@pytest.mark.parametrize("phase", ["evaluation", "training"])
def test_every_layer_with_weights_shows_its_output(case: Case, phase: str) -> None:
    check = _climbed(case, "plain")[f"output, {phase}"]
    layers = [".".join(layer.path) for layer in weight_layers(case.config)]
    compared = {row.name.removeprefix("features.") for row in check.rows}
    assert compared.issuperset(layers)


@functools.cache
def _climbed(case: Case, formulation: Formulation) -> dict[str, Check]:
    config, variables = case.config, random_variables(case.config)
    checks = climb(
        FlaxHalf(config, variables, formulation),
        reference_half(config, variables),
        TOLERANCES[config.dtype],
        random_batch(config, case.image_shape),
        random_pixels(config, case.image_shape, _NUM_STEPS),
    )
    return {check.rung.title: check for check in checks}
