"""Options beside the paper's recipe, each against PyTorch's own implementation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from flax_densenet.parity.tolerances import TOLERANCES
from flax_densenet.training.loss import cross_entropy
from flax_densenet.training.optimizer import learning_rate_schedule, sgd
from parity_tests.halves import assert_close

_STEPS = 12
_RATE = 0.3


def _torch_rates(make: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], _RATE)
    scheduler = make(optimizer)
    rates = []
    for _ in range(_STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def _warm(main: Any, steps: int) -> Any:
    lr = torch.optim.lr_scheduler

    def make(optimizer: torch.optim.Optimizer) -> Any:
        rise = lr.LinearLR(optimizer, 1 / steps, 1.0, steps - 1)
        return lr.SequentialLR(optimizer, [rise, main(optimizer)], [steps])

    return make


@pytest.mark.parametrize("warmup", [0, 3])
def test_cosine_is_cosine_annealing(warmup: int) -> None:
    def cosine(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS - warmup)

    theirs = _torch_rates(_warm(cosine, warmup) if warmup else cosine)
    schedule = learning_rate_schedule(_RATE, _STEPS, kind="cosine", warmup_steps=warmup)
    # optax computes the rate in float32
    np.testing.assert_allclose([schedule(s) for s in range(_STEPS)], theirs, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("drops", [(0.5, 0.75), (1 / 3, 2 / 3), (0.25,)])
def test_drops_are_those_of_multi_step(drops: tuple[float, ...]) -> None:
    milestones = [round(share * _STEPS) for share in drops]

    def multi_step(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, 0.1)

    schedule = learning_rate_schedule(_RATE, _STEPS, drops=drops)
    rates = [schedule(step) for step in range(_STEPS)]
    np.testing.assert_allclose(rates, _torch_rates(multi_step), rtol=2e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing_and_its_gradient(smoothing: float) -> None:
    random = np.random.default_rng(0)
    logits, label = 5 * random.normal(size=(6, 7)), random.integers(7, size=6)
    theirs_logits = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    theirs = loss(theirs_logits, torch.from_numpy(label))
    theirs.backward()
    assert theirs_logits.grad is not None
    with jax.enable_x64(True):
        value, gradient = jax.value_and_grad(
            lambda x: jnp.mean(cross_entropy(x, label, smoothing=smoothing))
        )(jnp.asarray(logits))
    tolerance = TOLERANCES["float64"].forward
    assert_close(
        {"loss": value, "gradient": gradient},
        {"loss": theirs.detach().numpy(), "gradient": theirs_logits.grad.numpy()},
        tolerance,
    )


def _parameters() -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    random = np.random.default_rng(1)
    shapes = {"kernel": (3, 4), "bias": (4,)}
    start = {name: random.normal(size=shape) for name, shape in shapes.items()}
    gradients = [
        {name: 10.0 ** (step % 3 - 1) * random.normal(size=s) for name, s in shapes.items()}
        for step in range(_STEPS)
    ]
    return start, gradients


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 1e6])
def test_clipped_steps(max_norm: float) -> None:
    start, gradients = _parameters()
    theirs = {k: torch.tensor(v, requires_grad=True) for k, v in start.items()}
    optimizer = torch.optim.SGD(theirs.values(), 0.1, 0.9, weight_decay=1e-2, nesterov=True)
    with jax.enable_x64(True):
        ours: Any = {name: jnp.asarray(value) for name, value in start.items()}
        transformation = sgd(0.1, 1e-2, max_gradient_norm=max_norm)
        state = transformation.init(ours)
        for gradient in gradients:
            for name, value in gradient.items():
                theirs[name].grad = torch.from_numpy(value.copy())
            torch.nn.utils.clip_grad_norm_(theirs.values(), max_norm)
            optimizer.step()
            updates, state = transformation.update(gradient, state, ours)
            ours = optax.apply_updates(ours, updates)
    right = {name: value.detach().numpy() for name, value in theirs.items()}
    assert_close(ours, right, TOLERANCES["float64"].training)
