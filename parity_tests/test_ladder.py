"""Every rung of the ladder holds for every tiny network, in float64 and in float32.

They are every module's output, by name, in evaluation and in training; the loss and its gradient
for the image and every parameter; running statistics; and ten steps of training, with
learning-rate drops inside, which leave both halves in the same state. The same holds for every
implementation, of which only the plain one shows the outputs before the classifier.
"""

import functools

import jax
import pytest

from flax_densenet.implementations.choose import Implementation
from flax_densenet.network.layers import weight_layers
from flax_densenet.parity.divergence import find_divergence
from flax_densenet.parity.flax_half import FlaxHalf
from flax_densenet.parity.ladder import RUNGS, Check, Rung, climb
from flax_densenet.parity.random_inputs import random_batch, random_pixels, random_variables
from flax_densenet.parity.tolerances import TOLERANCES
from parity_tests.halves import reference_half
from parity_tests.networks import CASES, OPTION_CASES, Case, with_precision

_NUM_STEPS = 10


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.title)
def test_every_array_of_the_rung_agrees(case: Case, rung: Rung) -> None:
    _assert_agrees(_climbed(case, "plain")[rung.title])


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.title)
@pytest.mark.parametrize(
    ("implementation", "name"),
    [
        # One by day: test_implementations.py compares all of them with the plain one.
        ("native", "ImageNet"),
        pytest.param("blocked", "plain, gray, odd size", marks=pytest.mark.slow),
        pytest.param("gpu", "BC, Keras epsilon", marks=pytest.mark.slow),
        pytest.param("native", "plain, gray, odd size", marks=pytest.mark.slow),
        pytest.param("native", "BC, Keras epsilon", marks=pytest.mark.slow),
        pytest.param("blocked", "BC, Keras epsilon", marks=pytest.mark.slow),
        pytest.param("blocked", "ImageNet", marks=pytest.mark.slow),
        pytest.param("gpu", "plain, gray, odd size", marks=pytest.mark.slow),
        pytest.param("gpu", "ImageNet", marks=pytest.mark.slow),
    ],
)
def test_every_rung_holds_in_every_implementation(
    implementation: Implementation, name: str, rung: Rung, float64: None, small_chunks: None
) -> None:
    case = with_precision(CASES[name], "float64")
    _assert_agrees(_climbed(case, implementation)[rung.title])


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.title)
@pytest.mark.parametrize("name", OPTION_CASES)
def test_every_rung_holds_with_options(name: str, rung: Rung, float64: None) -> None:
    case = with_precision(OPTION_CASES[name], "float64")
    _assert_agrees(_climbed(case, "plain")[rung.title])


@pytest.mark.slow
@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.title)
def test_every_rung_holds_with_options_in_float32(rung: Rung) -> None:
    # What float32 could bring to light are sums: those over all numbers for a PReLU's slope.
    case = with_precision(OPTION_CASES["PReLU, groups, attention"], "float32")
    with jax.default_matmul_precision("highest"):
        _assert_agrees(_climbed(case, "plain")[rung.title])


@pytest.mark.parametrize("name", OPTION_CASES)
def test_every_layer_of_an_option_shows_its_output(name: str, float64: None) -> None:
    case = with_precision(OPTION_CASES[name], "float64")
    check = _climbed(case, "plain")["output, training"]
    layers = [".".join(layer.path) for layer in weight_layers(case.config)]
    compared = {row.name.removeprefix("features.") for row in check.rows}
    assert compared.issuperset(layers)


@pytest.mark.parametrize("phase", ["evaluation", "training"])
def test_every_layer_with_weights_shows_its_output(case: Case, phase: str) -> None:
    check = _climbed(case, "plain")[f"output, {phase}"]
    layers = [".".join(layer.path) for layer in weight_layers(case.config)]
    compared = {row.name.removeprefix("features.") for row in check.rows}
    assert compared.issuperset(layers)


def _assert_agrees(check: Check) -> None:
    assert check.agrees, find_divergence(check)
    # Without the allowance for measured rounding, which only the command makes.
    assert all(row.rounding is None for row in check.rows)


@functools.cache
def _climbed(case: Case, implementation: Implementation) -> dict[str, Check]:
    config, variables = case.config, random_variables(case.config)
    checks = climb(
        FlaxHalf(config, variables, implementation),
        reference_half(config, variables),
        TOLERANCES[config.dtype],
        random_batch(config, case.image_shape),
        random_pixels(config, case.image_shape, _NUM_STEPS, case.first_seed),
    )
    return {check.rung.title: check for check in checks}
