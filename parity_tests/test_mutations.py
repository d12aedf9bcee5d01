"""Rung 6: the ladder can fail. Each classic mistake, made on purpose, is caught.

A mistake replaces a function or class that the network calls, so that it does not depend on how
the network's source is written.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from flax_densenet import DenseNetConfig
from flax_densenet.network import model
from flax_densenet.network.batch_norm import BatchNorm
from flax_densenet.network.layers import Kind
from flax_densenet.parity.differences import DECISIVE, worst
from flax_densenet.parity.flax_half import FlaxHalf
from flax_densenet.parity.half import Observation
from flax_densenet.parity.ladder import climb
from flax_densenet.parity.random_inputs import random_batch, random_pixels, random_variables
from flax_densenet.parity.tolerances import TOLERANCES
from flax_densenet.weights import layouts
from parity_tests.halves import assert_close, reference_half
from parity_tests.networks import Case

_TOLERANCE = TOLERANCES["float64"]
# Even sizes on every level, where "SAME" differs from padding on both sides; 12 classes for 12
# channels, so that the classifier's weight is square.
_EVEN = Case(
    DenseNetConfig(
        blocks=(2, 1),
        growth_rate=4,
        bottleneck=True,
        compression=0.5,
        stem="imagenet",
        num_classes=12,
        dtype="float64",
    ),
    (4, 3, 32, 32),
)
_ODD = _EVEN._replace(image_shape=(4, 3, 21, 19))


class Mutation(NamedTuple):
    """A mistake.

    Attributes:
      owner: Module or class in which something is replaced.
      name: Its name there.
      wrong: Returns what takes its place, from the right one.
      caught_by: The rung that must catch it.
    """

    owner: Any
    name: str
    wrong: Callable[[Any], Any]
    caught_by: str


def _without_activation(number: str) -> Callable[[Any], Any]:
    """Leaves out the activation with this number: "0" is the stem's, "5" the last."""

    def wrong(activation: Any) -> Any:
        return lambda config, n: (lambda x: x) if n == number else activation(config, n)

    return wrong


def _given(**arguments: Any) -> Callable[[Any], Any]:
    """Calls with other arguments, whatever the caller says."""
    return lambda right: lambda *args, **given: right(*args, **(given | arguments))


def _zero_padded_pool(_: Any) -> Any:
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lambda x: nn.max_pool(jnp.pad(x, padding), window_shape=(3, 3), strides=(2, 2))


def _reversed_block(call: Any) -> Any:
    """Joins a block's maps the other way round: the last layer's first, the input last."""

    def wrong(block: model.DenseBlock, x: jax.Array, *, train: bool) -> jax.Array:
        joined = call(block, x, train=train)
        sizes = [x.shape[-1], *[block.config.growth_rate] * block.num_layers]
        parts = jnp.split(joined, np.cumsum(sizes)[:-1], axis=-1)
        return jnp.concatenate(parts[::-1], axis=-1)

    return wrong


def _always_dropping(dropout: Any) -> Any:
    def wrong(config: DenseNetConfig) -> Any:
        key = jax.random.key(0)
        return lambda x, *, deterministic: dropout(config)(x, deterministic=False, rng=key)

    return wrong


def _with_attribute(name: str, value: float) -> Callable[[Any], Any]:
    """Gives every batch normalization another value of one of its attributes."""

    def wrong(right: type[nn.Module]) -> Any:
        class Wrong(right):  # type: ignore[valid-type, misc]
            def __post_init__(self) -> None:
                setattr(self, name, value)
                super().__post_init__()

        return Wrong

    return wrong


def _biased_variance(call: Any) -> Any:
    """Takes the factor n / (n - 1) out of what the batch adds to the running variance."""

    def wrong(norm: BatchNorm, x: jax.Array, *, train: bool) -> jax.Array:
        before = norm.variables["batch_stats"]["var"]
        y = call(norm, x, train=train)
        if train:
            count = x.size // x.shape[-1]
            kept = (1 - norm.momentum) * before
            added = norm.variables["batch_stats"]["var"] - kept
            norm.put_variable("batch_stats", "var", kept + added * (count - 1) / count)
        return y

    return wrong


def _unbiased_normalization(call: Any) -> Any:
    """Normalizes by the variance with n - 1."""

    def wrong(norm: BatchNorm, x: jax.Array, *, train: bool) -> jax.Array:
        y = call(norm, x, train=train)
        if not train:
            return y
        # (x - mean) / sqrt(var n / (n - 1)), but for epsilon, which is far smaller than var.
        count = x.size // x.shape[-1]
        bias = norm.variables["params"]["bias"]
        return (y - bias) * np.sqrt((count - 1) / count) + bias

    return wrong


MUTATIONS = {
    "no stem ReLU": Mutation(model, "activation", _without_activation("0"), "evaluation"),
    "no final ReLU": Mutation(model, "activation", _without_activation("5"), "evaluation"),
    "SAME convolution": Mutation(nn, "Conv", _given(padding="SAME"), "evaluation"),
    "SAME stem pool": Mutation(
        model,
        "stem_pool",
        lambda _: lambda x: nn.max_pool(x, (3, 3), (2, 2), padding="SAME"),
        "evaluation",
    ),
    "zero-padded stem pool": Mutation(model, "stem_pool", _zero_padded_pool, "stem pool"),
    "padded transition pool": Mutation(
        nn, "avg_pool", _given(padding="SAME", count_include_pad=True), "odd size"
    ),
    "reversed concatenation": Mutation(model.DenseBlock, "__call__", _reversed_block, "evaluation"),
    "dropout in evaluation": Mutation(model, "_dropout", _always_dropping, "evaluation"),
    "epsilon 1e-3": Mutation(model, "BatchNorm", _with_attribute("epsilon", 1e-3), "evaluation"),
    "momentum 0.99": Mutation(
        model, "BatchNorm", _with_attribute("momentum", 1 - 0.99), "statistics"
    ),
    "biased running variance": Mutation(BatchNorm, "__call__", _biased_variance, "statistics"),
    "unbiased normalization": Mutation(BatchNorm, "__call__", _unbiased_normalization, "training"),
}


def _stem_pool_agrees() -> None:
    for size in (8, 9):
        x = -1 - np.random.default_rng(0).random((2, 3, size, size))  # all below 0
        ours = model.stem_pool(jnp.asarray(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
        theirs = torch.nn.MaxPool2d(3, stride=2, padding=1)(torch.from_numpy(x)).numpy()
        assert_close({"pool0": np.asarray(ours)}, {"pool0": theirs}, _TOLERANCE.forward)


def _evaluation_agrees(case: Case) -> None:
    # Dropout must be inactive in evaluation.
    config = dataclasses.replace(case.config, dropout_rate=0.5)
    variables, batch = random_variables(config), random_batch(config, case.image_shape)
    ours = FlaxHalf(config, variables).forward(batch.image)
    theirs = reference_half(config, variables).forward(batch.image)
    assert_close(ours, theirs, _TOLERANCE.forward)


def _training_agrees(quantity: str) -> None:
    ours, theirs = _observe_training()
    assert_close(getattr(ours, quantity), getattr(theirs, quantity), _TOLERANCE.forward)


def _observe_training() -> tuple[Observation, Observation]:
    config, variables = _EVEN.config, random_variables(_EVEN.config)
    batch = random_batch(config, _EVEN.image_shape)
    ours = FlaxHalf(config, variables).observe(batch, train=True)
    return ours, reference_half(config, variables).observe(batch, train=True)


RUNGS: dict[str, Callable[[], None]] = {
    "stem pool": _stem_pool_agrees,
    "evaluation": lambda: _evaluation_agrees(_EVEN),
    "odd size": lambda: _evaluation_agrees(_ODD),
    "training": lambda: _training_agrees("activations"),
    "statistics": lambda: _training_agrees("statistics"),
}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Runs the rungs in float64."""
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", MUTATIONS)
def test_mistake_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, wrong, caught_by = MUTATIONS[name]
    monkeypatch.setattr(owner, attribute, wrong(getattr(owner, attribute)))
    with pytest.raises(AssertionError, match=r"differ|got shape"):
        RUNGS[caught_by]()


def test_allowance_that_decides_is_below_what_the_smallest_mistake_shows() -> None:
    config, variables = _EVEN.config, random_variables(_EVEN.config)
    batch, steps = random_batch(config, _EVEN.image_shape), random_pixels(config, (4, 3, 32, 32), 5)
    right = reference_half(config, variables)
    wrong = reference_half(dataclasses.replace(config, batch_norm_epsilon=1e-3), variables)
    checks = [*climb(wrong, right, _TOLERANCE, batch, steps)]
    found = {check.rung.title: worst(check.rows).relative for check in checks}
    # A loss is one number, in which faults cancel out.
    shown = {title: apart for title, apart in found.items() if not title.startswith("loss")}
    assert len(shown) == 8
    assert min(shown.values()) > DECISIVE


@pytest.mark.parametrize("rung", RUNGS)
def test_rung_passes_without_a_mistake(rung: str) -> None:
    RUNGS[rung]()


@pytest.mark.parametrize(
    ("kind", "leaf"),
    [
        ("conv", layouts.Leaf("weight", "params", "kernel", "OIHW", "WHIO")),
        ("linear", layouts.Leaf("weight", "params", "kernel", "OI", "OI")),
    ],
    ids=["square convolution", "square classifier"],
)
def test_forgotten_transpose_is_caught(
    kind: Kind, leaf: layouts.Leaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = layouts.TORCH_LEAVES[kind][1:]
    monkeypatch.setitem(layouts.TORCH_LEAVES, kind, (leaf, *others))
    with pytest.raises(AssertionError, match="differ"):
        RUNGS["evaluation"]()
