"""Rung 6: the ladder can fail. Each classic mistake, made on purpose, is caught."""

import dataclasses
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
import torch

from flax_densenet import DenseNetConfig
from flax_densenet.network import batch_norm, model
from flax_densenet.network.layers import Kind
from flax_densenet.parity.differences import assert_close
from flax_densenet.parity.flax_half import FlaxHalf
from flax_densenet.parity.half import Observation
from flax_densenet.parity.random_inputs import random_batch, random_variables
from flax_densenet.parity.tolerances import TOLERANCES
from flax_densenet.parity.torch_half import reference_half
from flax_densenet.weights import layouts
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
    """A mistake: text of a source file that is replaced, and the rung that must catch it."""

    module: types.ModuleType
    right: str
    wrong: str
    caught_by: str


_MODEL, _BATCH_NORM = model, batch_norm
_ZERO_PADDED = "jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), window_shape=(3, 3), strides=(2, 2))"
MUTATIONS = {
    "no stem ReLU": Mutation(
        _MODEL, 'return activation(module.config, number)(_norm(module, number)(x, train=train))',
        'return (nn.relu if number != "0" else lambda x: x)(_norm(module, number)(x, train=train))',
        "evaluation",
    ),
    "no final ReLU": Mutation(
        _MODEL, 'x = activation(cfg, "5")(x)', "x = x + 0", "evaluation",
    ),
    "SAME convolution": Mutation(_MODEL, "padding=size // 2", 'padding="SAME"', "evaluation"),
    "SAME stem pool": Mutation(_MODEL, "padding=((1, 1), (1, 1))", 'padding="SAME"', "evaluation"),
    "zero-padded stem pool": Mutation(
        _MODEL, "x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))", _ZERO_PADDED,
        "stem pool",
    ),
    "padded transition pool": Mutation(
        _MODEL, "window_shape=(2, 2), strides=(2, 2))",
        'window_shape=(2, 2), strides=(2, 2), padding="SAME", count_include_pad=True)',
        "odd size",
    ),
    "reversed concatenation": Mutation(
        _MODEL, "return jnp.concatenate(features,",
        "return jnp.concatenate(features[::-1],", "evaluation",
    ),
    "dropout in evaluation": Mutation(
        _MODEL, "deterministic=not train", "deterministic=False", "evaluation"
    ),
    "epsilon 1e-3": Mutation(_MODEL, "cfg.batch_norm_epsilon", "1e-3", "evaluation"),
    "momentum 0.99": Mutation(_MODEL, "cfg.batch_norm_momentum", "1 - 0.99", "statistics"),
    "biased running variance": Mutation(
        _BATCH_NORM, "count / (count - 1)", "1.0", "statistics"
    ),
    "unbiased normalization": Mutation(
        _BATCH_NORM, "var = self._mean(jnp.square(x - mean))",
        "var = jnp.var(x, axis=(0, 1, 2), ddof=1)", "training",
    ),
}  # fmt: skip


def _stem_pool_agrees(model: types.ModuleType) -> None:
    for size in (8, 9):
        x = -1 - np.random.default_rng(0).random((2, 3, size, size))  # all below 0
        ours = model.stem_pool(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        theirs = torch.nn.MaxPool2d(3, stride=2, padding=1)(torch.from_numpy(x)).numpy()
        assert_close({"pool0": ours}, {"pool0": theirs}, _TOLERANCE.forward)


def _pass_agrees(model: types.ModuleType, case: Case, *, train: bool) -> None:
    # Dropout must be inactive in evaluation and cannot be compared in training.
    config = dataclasses.replace(case.config, dropout_rate=0.0 if train else 0.5)
    ours, theirs = _observe(model, case._replace(config=config), train=train)
    assert_close(ours.activations, theirs.activations, _TOLERANCE.forward)


def _statistics_agree(model: types.ModuleType) -> None:
    ours, theirs = _observe(model, _EVEN, train=True)
    assert_close(ours.statistics, theirs.statistics, _TOLERANCE.forward)


def _observe(
    model: types.ModuleType, case: Case, *, train: bool
) -> tuple[Observation, Observation]:
    config, variables = case.config, random_variables(case.config)
    batch = random_batch(config, case.image_shape)
    halves = (
        FlaxHalf(config, variables, model_class=model.DenseNet),
        reference_half(config, variables),
    )
    ours, theirs = (half.observe(batch, train=train) for half in halves)
    return ours, theirs


RUNGS: dict[str, Callable[[types.ModuleType], None]] = {
    "stem pool": _stem_pool_agrees,
    "evaluation": lambda model: _pass_agrees(model, _EVEN, train=False),
    "odd size": lambda model: _pass_agrees(model, _ODD, train=False),
    "training": lambda model: _pass_agrees(model, _EVEN, train=True),
    "statistics": _statistics_agree,
}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Runs the rungs in float64."""
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", MUTATIONS)
def test_mistake_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation = MUTATIONS[name]
    mutant = _mutate(mutation)
    model = mutant
    if mutation.module is _BATCH_NORM:
        monkeypatch.setattr(_MODEL, "BatchNorm", mutant.BatchNorm)
        model = _MODEL
    with pytest.raises(AssertionError, match=r"differ|got shape"):
        RUNGS[mutation.caught_by](model)


@pytest.mark.parametrize("rung", RUNGS)
def test_rung_passes_without_a_mistake(rung: str) -> None:
    RUNGS[rung](_MODEL)


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
        RUNGS["evaluation"](_MODEL)


def _mutate(mutation: Mutation) -> types.ModuleType:
    """Returns the module with the mistake in its source."""
    path = Path(mutation.module.__file__ or "")
    source = path.read_text()
    assert mutation.right in source, f"{path.name} no longer says {mutation.right!r}"
    mutant = types.ModuleType(f"{mutation.module.__name__}_mutant")
    sys.modules[mutant.__name__] = mutant  # dataclasses look their module up
    exec(compile(source.replace(mutation.right, mutation.wrong), str(path), "exec"), vars(mutant))
    return mutant
