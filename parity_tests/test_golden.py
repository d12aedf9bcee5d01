"""Rung 7: an anchor outside both halves, torchvision's own numbers, met in float64."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F

from flax_densenet import VARIANTS, DenseNet, DenseNetConfig, from_torch, to_torch_arrays
from flax_densenet.parity.flax_half import FlaxHalf
from flax_densenet.parity.half import Batch, Half
from flax_densenet.parity.tolerances import TOLERANCES
from flax_densenet.training.optimizer import sgd
from flax_densenet.training.step import cross_entropy
from parity_tests import golden
from parity_tests.halves import assert_close, reference_half

_TOLERANCE = TOLERANCES["float64"]
_EVALUATIONS = golden.golden()["eval"]
_TRAINING = golden.golden()["train"][0]
_SGD_STEPS, _LEARNING_RATE, _WEIGHT_DECAY = 5, 0.01, 1e-4  # as stored under "sgd"
# Training DenseNet-121 on 4 images of 64x64 in float64: changing the last bit of every parameter
# moves PyTorch's own losses by 1e-11 of themselves at the third step and by 3e-9 at the fifth. No
# two machines can agree better than that, so from the fourth step on this is the bound.
_LAST_BIT_AMPLIFIED = 1e-8


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Computes in float64, as the numbers were."""
    with jax.enable_x64(True):
        yield


def _evaluations() -> Iterator[Any]:
    for stored in _EVALUATIONS:
        name = "{model} {image_shape}".format(**stored)
        yield pytest.param(stored, reference_half, id=f"{name}-reference")
        # Of two that differ in the number of layers or of pixels alone, Flax computes one by day.
        is_slow = stored["model"] == "densenet169" or name == "densenet121 [2, 3, 64, 64]"
        marks = [pytest.mark.slow] if is_slow else []
        yield pytest.param(stored, FlaxHalf, id=f"{name}-flax", marks=marks)


@pytest.mark.parametrize(("stored", "make_half"), list(_evaluations()))
def test_evaluation_gives_torchvisions_numbers(stored: dict[str, Any], make_half: Any) -> None:
    config, variables = _network(stored["model"])
    half: Half = make_half(config, variables)
    activations = half.forward(golden.image(stored["image_shape"]))
    # Pooling is no module in Flax; a block's output starts with its input.
    first_block = activations["features.denseblock1"]
    activations["features.pool0"] = first_block[:, : config.stem_channels]
    stored_arrays = {**stored["activations"], "logits": stored["logits"]}
    assert_close(*golden.summaries(activations, stored_arrays), _TOLERANCE.forward)
    assert activations["logits"].argmax(-1).tolist() == stored["logits"]["argmax"]


@pytest.mark.parametrize(
    "make_half",
    [
        reference_half,
        pytest.param(functools.partial(FlaxHalf, implementation="native"), id="native"),
        # The native one compiles in a tenth of the time and shows as much of what is stored.
        pytest.param(FlaxHalf, marks=pytest.mark.slow),
    ],
)
def test_training_gives_torchvisions_numbers(make_half: Any) -> None:
    half: Half = make_half(*_network(_TRAINING["model"]))
    image, label = golden.image(_TRAINING["image_shape"]), golden.label(4)
    seen = half.observe(Batch(image, label), train=True)
    assert seen.loss["loss"] == pytest.approx(_TRAINING["loss"], rel=_TOLERANCE.forward)
    for arrays, stored in (
        (seen.activations, {"logits": _TRAINING["logits"]}),
        (seen.gradients, {"image": _TRAINING["image_grad"], **_TRAINING["grads"]}),
        (seen.statistics, _TRAINING["statistics_after"]),
    ):
        assert_close(*golden.summaries(arrays, stored), _TOLERANCE.gradient)


@pytest.mark.slow
def test_torch_sgd_gives_torchvisions_numbers() -> None:
    config, variables = _network(_TRAINING["model"])
    model = reference_half(config, variables).model.train()
    optimizer = torch.optim.SGD(
        model.parameters(), _LEARNING_RATE, momentum=0.9, weight_decay=_WEIGHT_DECAY, nesterov=True
    )
    image, label = golden.image(_TRAINING["image_shape"]), golden.label(4)
    losses = []
    for _ in range(_SGD_STEPS):
        loss = F.cross_entropy(model(torch.from_numpy(image)), torch.from_numpy(label).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    _check_sgd(losses, {key: value.numpy() for key, value in model.state_dict().items()})


@pytest.mark.slow
def test_flax_sgd_gives_torchvisions_numbers() -> None:
    config, variables = _network(_TRAINING["model"])
    image, label = golden.image(_TRAINING["image_shape"]), golden.label(4)
    optimizer = sgd(_LEARNING_RATE, _WEIGHT_DECAY)

    @jax.jit
    def step(variables: Any, optimizer_state: Any) -> tuple[Any, Any, jax.Array]:
        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            logits, updates = DenseNet(config).apply(
                {**variables, "params": params},
                image.transpose(0, 2, 3, 1),
                train=True,
                mutable=["batch_stats"],
            )
            return jnp.mean(cross_entropy(logits, label)), updates

        (loss, updates), gradients = jax.value_and_grad(loss_fn, has_aux=True)(variables["params"])
        changes, optimizer_state = optimizer.update(gradients, optimizer_state, variables["params"])
        params = optax.apply_updates(variables["params"], changes)
        return {"params": params, **updates}, optimizer_state, loss

    optimizer_state, losses = jax.jit(optimizer.init)(variables["params"]), []
    for _ in range(_SGD_STEPS):
        variables, optimizer_state, loss = step(variables, optimizer_state)
        losses.append(loss.item())
    _check_sgd(losses, to_torch_arrays(variables, config))


def _check_sgd(losses: list[float], parameters: dict[str, np.ndarray]) -> None:
    stored = _TRAINING["sgd"]
    np.testing.assert_allclose(losses[:3], stored["losses"][:3], rtol=_TOLERANCE.training)
    np.testing.assert_allclose(losses[3:], stored["losses"][3:], rtol=_LAST_BIT_AMPLIFIED)
    assert_close(*golden.summaries(parameters, stored["parameters_after"]), _LAST_BIT_AMPLIFIED)


@functools.lru_cache(maxsize=1)  # both halves in turn
def _network(name: str) -> tuple[DenseNetConfig, dict[str, Any]]:
    config = dataclasses.replace(VARIANTS[name], dtype="float64")
    return config, from_torch(golden.state_dict(config), config)
