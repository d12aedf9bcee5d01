"""Tests of flax_densenet/training/parts.py and fine_tuning_config.py."""

import re
from typing import Any

import jax
import numpy as np
import pytest

from flax_densenet import VARIANTS, DenseNet, DenseNetConfig, InputError, initialize
from flax_densenet.implementations.choose import Implementation
from flax_densenet.training import Preprocess, create_state, sgd, train_step
from flax_densenet.training.config import FineTuningConfig
from flax_densenet.training.parts import (
    factor_tree,
    find_parts,
    frozen_paths,
    join_params,
    parameter_counts,
    split_params,
)

CONFIG = DenseNetConfig(blocks=(2, 1), growth_rate=2, bottleneck=True, stem="imagenet")


def fine_tuning(**fields: Any) -> FineTuningConfig:
    return FineTuningConfig(init_from="weights.pth", **fields)


# Parameters of the layers in torchvision's table: 1 for a convolution, 2 for a normalization or the
# classifier, 6 for a dense layer with bottleneck, 3 for a transition and for conv0 with norm0.
@pytest.mark.parametrize(
    ("freeze", "number"),
    [
        ("none", 0),
        ("features", 3 + 3 * 6 + 3 + 2),
        ("classifier", 2),
        ("conv0,norm0,denseblock1", 3 + 12),
        ("denseblock1.denselayer2", 6),
        ("denseblock*", 18),
        ("features.denseblock[2-9]", 6),
        ("norm?", 2 * (1 + 3 * 2 + 1)),  # norm0, norm1 and norm2 of each layer, norm5
        ("norm*", 2 * (1 + 3 * 2 + 1) + 2),  # and the transition's norm
        ("bias", 1 + 3 * 2 + 1 + 1 + 1),
        ("conv0.weight", 1),
    ],
)
def test_part_is_what_stands_between_dots(freeze: str, number: int) -> None:
    parts = find_parts(CONFIG, fine_tuning(freeze=freeze))
    assert len(parts.frozen) == number
    assert len(parts.factors) == 3 + 18 + 3 + 2 + 2 - number


def test_last_factor_that_fits_counts_and_the_others_are_1() -> None:
    flags = fine_tuning(freeze="conv0", learning_rate_factors="features=0.1,denseblock2=0.5,bias=2")
    factors = find_parts(CONFIG, flags).factors
    assert "features.conv0.weight" not in factors
    for name, factor in {
        "features.norm0.weight": 0.1,
        "features.norm0.bias": 2,
        "features.denseblock1.denselayer1.conv1.weight": 0.1,
        "features.denseblock2.denselayer1.conv1.weight": 0.5,
        "classifier.weight": 1,
        "classifier.bias": 2,
    }.items():
        assert factors[name] == factor, name


def test_factors_are_a_tree_like_the_trained_parameters() -> None:
    flags = fine_tuning(freeze="conv0", learning_rate_factors="classifier.weight=3")
    parts = find_parts(CONFIG, flags)
    params = initialize(CONFIG, jax.random.key(0))["params"]
    trained, rest = split_params(params, frozen_paths(CONFIG, parts))
    assert set(rest) == {"conv0"}
    tree = factor_tree(CONFIG, parts)
    jax.tree.map(lambda factor, array: None, tree, trained)  # fails if they differ
    assert tree is not None and tree["classifier"] == {"kernel": 3, "bias": 1}
    assert factor_tree(CONFIG, find_parts(CONFIG, fine_tuning(freeze="conv0"))) is None
    jax.tree.map(np.testing.assert_array_equal, join_params(trained, rest), params)


def test_counts_are_those_of_torchvision() -> None:
    # 1,024 features to 1,000 classes, and torchvision's published total
    counts = parameter_counts(VARIANTS["densenet121"], fine_tuning(freeze="features"))
    assert counts == {"parameters": 7_978_856, "trained_parameters": 1024 * 1000 + 1000}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"freeze": "featurs"},
            "'featurs' in freeze fits no parameter of the network; perhaps you meant features; "
            "names are features.conv0.weight, .*, classifier.bias and the like",
        ),
        ({"freeze": "features,running_mean"}, "'running_mean' in freeze fits no parameter"),
        (
            {"freeze": "features,classifier"},
            r"freeze \(='features,classifier'\) leaves nothing to train: it fits all 28 parameters",
        ),
        ({"freeze": "*"}, r"freeze \(='\*'\) leaves nothing to train"),
        (
            {"learning_rate_factors": "denseblock3=0.5"},
            "'denseblock3' in learning_rate_factors fits no parameter .* meant denseblock",
        ),
        (
            {"learning_rate_factors": "denseblock1=0.5,features=0.1"},
            "denseblock1=0.5 in learning_rate_factors has no effect: .*; put the entry for the",
        ),
        (
            {"freeze": "features", "learning_rate_factors": "conv0=0.5"},
            "conv0=0.5 in learning_rate_factors has no effect: all that it fits is frozen",
        ),
    ],
)
def test_what_does_not_fit_the_network_is_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_parts(CONFIG, fine_tuning(**fields))


@pytest.mark.parametrize("freeze", ["", "features,", ",features"])
def test_empty_part_is_refused(freeze: str) -> None:
    message = rf"freeze \(={freeze!r}\) must be 'none', or PART,PART,... such as features"
    with pytest.raises(InputError, match=message):
        fine_tuning(freeze=freeze)


@pytest.mark.parametrize(
    "text", ["", "features", "features=", "=0.1", "a=0", "a=-1", "a=nan", "a=inf"]
)
def test_factors_that_are_none_are_refused(text: str) -> None:
    message = rf"learning_rate_factors \(={re.escape(repr(text))}\) must be PART=FACTOR,PART=FACTOR"
    with pytest.raises(InputError, match=message):
        fine_tuning(learning_rate_factors=text)


@pytest.mark.parametrize(
    "field",
    [{"weights": "model"}, {"new_head": True}, {"freeze": "features"}, {"freeze_batch_norm": True}],
)
def test_what_means_weights_needs_some(field: dict[str, Any]) -> None:
    ((name, value),) = field.items()
    name = "weight_set" if name == "weights" else name  # as flags spell it
    with pytest.raises(InputError, match=rf"{name} \(={value}\) needs weights: give init_from"):
        FineTuningConfig(**field)


def test_factors_alone_need_no_weights() -> None:
    assert FineTuningConfig(learning_rate_factors="a=0.5").factors == (("a", 0.5),)


# 11 products forward (conv0, two per layer, transition, classifier). Backward each has one for its
# kernel and one for its input, but for the image.
@pytest.mark.parametrize("implementation", ["plain", "blocked"])
@pytest.mark.parametrize(
    ("freeze", "products"),
    [
        ("none", 11 + 11 + 10),
        ("features", 11 + 1),
        ("conv0,denseblock1,transition1", 11 + 5 + 5),  # norm1 is trained: its input counts
        ("classifier", 11 + 10 + 10),
    ],
)
def test_what_is_frozen_costs_no_gradient(
    freeze: str, products: int, implementation: Implementation
) -> None:
    config = DenseNetConfig(blocks=(2, 2), growth_rate=2, bottleneck=True)
    parts = find_parts(config, fine_tuning(freeze=freeze))
    state = create_state(
        DenseNet(config, implementation=implementation),
        sgd(0.1, 1e-4),
        Preprocess((0.0,) * 3, (1.0,) * 3, "none"),
        seed=0,
        frozen=frozen_paths(config, parts),
    )
    batch: Any = {"image": np.zeros((2, 8, 8, 3), np.uint8), "label": np.zeros(2, np.int32)}
    program = str(jax.make_jaxpr(train_step)(state, batch))
    counts = [program.count(f"{name}[") for name in ("conv_general_dilated", "dot_general")]
    assert sum(counts) == products
