"""Tests of `DenseNet.features`; parity_tests/test_features.py compares its values."""

from typing import Any

import jax
import numpy as np
import pytest

import flax_densenet
from flax_densenet import DenseNet, DenseNetConfig, InputError

CONFIG = DenseNetConfig(depth=10, growth_rate=2, num_classes=3)
MODEL = DenseNet(CONFIG)
IMAGE = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def variables() -> dict:
    return flax_densenet.initialize(CONFIG, jax.random.key(0))


def features(variables: dict, model: DenseNet = MODEL, **options: Any) -> Any:
    return model.apply(variables, IMAGE, train=False, method="features", **options)


def test_names_shapes_and_order(variables: dict) -> None:
    found = features(variables)
    # 16 channels from the stem, and 3 blocks of 2 layers with 2 maps each.
    assert [(name, x.shape) for name, x in found.items()] == [
        ("denseblock1", (2, 8, 8, 20)),
        ("denseblock2", (2, 4, 4, 24)),
        ("denseblock3", (2, 2, 2, 28)),
        ("norm5", (2, 2, 2, 28)),
        ("last", (2, 2, 2, 28)),
        ("pooled", (2, 28)),
    ]
    np.testing.assert_array_equal(found["last"], np.maximum(found["norm5"], 0))
    np.testing.assert_allclose(found["pooled"], found["last"].mean((1, 2)), rtol=1e-6)


def test_nothing_behind_the_last_name_is_computed(variables: dict) -> None:
    names = ("denseblock1",)
    found, state = features(variables, names=names, capture_intermediates=True)
    assert tuple(found) == names
    assert set(state["intermediates"]) == {"conv0", "denseblock1"}


def test_names_are_as_asked_and_in_forward_order(variables: dict) -> None:
    assert list(features(variables, names=["logits", "last"])) == ["last", "logits"]


def test_pooled_features_are_blocked_and_maps_are_not(variables: dict) -> None:
    def loops(names: tuple[str, ...]) -> int:
        lowered = jax.jit(lambda variables: features(variables, names=names)).lower(variables)
        return lowered.as_text().count("stablehlo.while")

    assert loops(("pooled",)) > 0
    assert loops(("denseblock1", "pooled")) == 0


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("denseblock4",),
            r"names \(=\('denseblock4',\)\) must be a tuple of some of denseblock1, ",
        ),
        ("pooled", r"names \(='pooled'\) must be a tuple of some of denseblock1, .*, logits"),
    ],
)
def test_unknown_names_are_refused(names: object, message: str, variables: dict) -> None:
    with pytest.raises(InputError, match=message):
        features(variables, names=names)


def test_maps_of_implementations_that_hide_them_are_refused(variables: dict) -> None:
    model = DenseNet(CONFIG, implementation="gpu")
    with pytest.raises(InputError, match=r"implementation .=gpu. shows no feature maps"):
        model.apply(variables, IMAGE, train=True, method="features", mutable=["batch_stats"])
    model = DenseNet(CONFIG, implementation="blocked")
    with pytest.raises(InputError, match=r"implementation .=blocked. shows no feature"):
        features(variables, model)
    assert features(variables, model, names=("pooled",))["pooled"].shape == (2, 28)
