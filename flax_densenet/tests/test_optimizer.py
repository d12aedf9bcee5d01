"""Tests of flax_densenet/training/optimizer.py."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_densenet.training import learning_rate_schedule, sgd


@pytest.mark.parametrize(
    ("total_steps", "rates"),
    [
        (1, [0.1]),
        (2, [0.1, 0.01]),
        (3, [0.1, 0.1, 0.01]),
        (4, [0.1, 0.1, 0.01, 0.001]),
        (10, [0.1] * 5 + [0.01] * 3 + [0.001] * 2),
        (200, [0.1] * 100 + [0.01] * 50 + [0.001] * 50),
    ],
)
def test_learning_rate_drops_at_half_and_three_quarters(
    total_steps: int, rates: list[float]
) -> None:
    schedule = learning_rate_schedule(0.1, total_steps)
    np.testing.assert_allclose([schedule(step) for step in range(total_steps)], rates, rtol=1e-6)


def run(params: Any, gradients: list[Any], schedule: optax.Schedule, decay: float) -> list[Any]:
    optimizer = sgd(schedule, decay)
    state = optimizer.init(params)
    seen = []
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return seen


def test_steps_are_those_of_torch() -> None:
    draw = np.random.default_rng(0)
    start = {name: draw.normal(size=(4, 3)).astype(np.float32) for name in ("kernel", "bias")}
    gradients = [{name: draw.normal(size=(4, 3)) for name in start} for _ in range(6)]
    rates = [0.2, 0.2, 0.2, 0.02, 0.02, 0.02]
    decay = 0.1
    schedule = optax.piecewise_constant_schedule(0.2, {3: 0.1})
    result = run(
        {name: jnp.asarray(value) for name, value in start.items()}, gradients, schedule, decay
    )
    for name, value in start.items():
        # torch.optim.SGD(momentum=0.9, nesterov=True, weight_decay=0.1), written out in float64.
        p, buf = value.astype(np.float64), np.zeros((4, 3))
        for step, rate in enumerate(rates):
            g = gradients[step][name] + decay * p
            buf = 0.9 * buf + g
            p = p - rate * (g + 0.9 * buf)
            np.testing.assert_allclose(result[step][name], p, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("schedule", [0.1, learning_rate_schedule(0.1, 4)])
def test_it_is_optax_in_updates_and_state(
    schedule: optax.ScalarOrSchedule, fused: bool, float64: None
) -> None:
    draw = np.random.default_rng(1)
    params = {"kernel": jnp.asarray(draw.normal(size=(3, 3, 2, 5))), "bias": jnp.ones(5)}
    wanted = optax.chain(
        optax.add_decayed_weights(1e-2), optax.sgd(schedule, momentum=0.9, nesterov=True)
    )
    ours = sgd(schedule, 1e-2, fused=fused)
    state, wanted_state = ours.init(params), wanted.init(params)
    for _ in range(4):
        gradients = jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape)), params)
        updates, state = ours.update(gradients, state, params)
        expected, wanted_state = wanted.update(gradients, wanted_state, params)
        for pair in ((updates, expected), (state, wanted_state)):
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-14, atol=1e-15), *pair)


def test_weight_decay_shrinks_every_parameter_biases_included() -> None:
    params = {
        "conv": {"kernel": jnp.ones((1, 1, 2, 2))},
        "norm": {"scale": jnp.ones(2)},
        "classifier": {"bias": -jnp.ones(2)},
    }
    zero = {
        "conv": {"kernel": jnp.zeros((1, 1, 2, 2))},
        "norm": {"scale": jnp.zeros(2)},
        "classifier": {"bias": jnp.zeros(2)},
    }
    (after,) = run(params, [zero], optax.constant_schedule(0.5), 0.1)
    shrunk = 1 - 0.5 * 1.9 * 0.1  # g = 0.1 p, buf = g, p -= 0.5 (g + 0.9 buf)
    np.testing.assert_allclose(after["conv"]["kernel"], np.full((1, 1, 2, 2), shrunk), rtol=1e-6)
    np.testing.assert_allclose(after["norm"]["scale"], [shrunk, shrunk], rtol=1e-6)
    np.testing.assert_allclose(after["classifier"]["bias"], [-shrunk, -shrunk], rtol=1e-6)


def test_drops_after_a_third_and_two_thirds_are_at_epochs_30_and_60_of_90() -> None:
    steps = 5004  # of ImageNet's epoch with 256 images each
    schedule = learning_rate_schedule(0.1, 90 * steps, drops=(1 / 3, 2 / 3))
    for epoch, rate in ((30, 0.01), (60, 0.001)):
        np.testing.assert_allclose(schedule(epoch * steps - 1), 10 * rate, rtol=1e-6)
        np.testing.assert_allclose(schedule(epoch * steps), rate, rtol=1e-6)


def test_cosine_starts_at_the_rate_halves_in_the_middle_and_ends_near_0() -> None:
    schedule = learning_rate_schedule(0.2, 100, kind="cosine")
    np.testing.assert_allclose([schedule(0), schedule(50), schedule(100)], [0.2, 0.1, 0], atol=1e-8)
    np.testing.assert_allclose(schedule(25), 0.1 * (1 + np.cos(np.pi / 4)), rtol=1e-6)


@pytest.mark.parametrize("kind", ["steps", "cosine"])
def test_warm_up_rises_linearly_and_shifts_no_drop(kind: Any) -> None:
    schedule = learning_rate_schedule(0.1, 20, kind=kind, warmup_steps=4)
    np.testing.assert_allclose(
        [schedule(step) for step in range(5)], [0.025, 0.05, 0.075, 0.1, 0.1], rtol=1e-6
    )
    if kind == "steps":
        without = learning_rate_schedule(0.1, 20)
        for step in range(4, 20):
            np.testing.assert_allclose(schedule(step), without(step), rtol=1e-6)


def test_drop_inside_the_warm_up_is_not_lost() -> None:
    schedule = learning_rate_schedule(0.1, 20, drops=(0.1, 0.5), warmup_steps=4)
    np.testing.assert_allclose([schedule(4), schedule(10)], [0.01, 0.001], rtol=1e-6)
