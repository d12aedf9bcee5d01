"""Tests of flax_densenet/network/variants.py: parameters and depths of the paper's networks."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import pytest

from flax_densenet import VARIANTS, DenseNetConfig, count_parameters

# Literal counts: the CIFAR ones round to the paper's Table 2, the ImageNet ones are torchvision's
# (264 has no torchvision net).
PARAMETERS = {
    "densenet-40-12": 1_019_722,
    "densenet-100-12": 6_979_642,
    "densenet-100-24": 27_249_082,
    "densenet-bc-100-12": 769_162,
    "densenet-bc-250-24": 15_324_406,
    "densenet-bc-190-40": 25_624_430,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "densenet161": 28_681_000,
    "densenet264": 33_337_704,
}
_BUILT_BY_DAY = ("densenet-40-12", "densenet-bc-100-12", "densenet121", "densenet161")
_SLOW = pytest.mark.slow
BC_100 = VARIANTS["densenet-bc-100-12"]
OTHER_PARAMETERS = [
    (DenseNetConfig(depth=40, growth_rate=12, stem_width=24), 1_059_298),
    (DenseNetConfig(depth=40, growth_rate=12, stem_width=24, compression=0.5), 599_050),
    (dataclasses.replace(BC_100, in_channels=1), 768_730),
    (dataclasses.replace(BC_100, num_classes=100), 800_032),
]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_counted_as_in_the_paper(name: str) -> None:
    assert count_parameters(VARIANTS[name]) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        *(
            # Tracing the largest takes a while; one of a kind is enough by day.
            pytest.param(
                VARIANTS[name], count, id=name, marks=[] if name in _BUILT_BY_DAY else _SLOW
            )
            for name, count in PARAMETERS.items()
        ),
        *OTHER_PARAMETERS,
    ],
)
def test_parameters_are_those_of_the_paper(
    config: DenseNetConfig,
    parameters: int,
    model_shapes: Callable[[DenseNetConfig], dict[str, Any]],
) -> None:
    built = sum(leaf.size for leaf in jax.tree.leaves(model_shapes(config)["params"]))
    assert built == parameters
    assert count_parameters(config) == parameters


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("densenet-40-12", 40),
        ("densenet-bc-190-40", 190),
        ("densenet121", 121),
        ("densenet169", 169),
        ("densenet201", 201),
        ("densenet161", 161),
        ("densenet264", 265),
    ],
)
def test_depth_counts_convolutions_and_the_classifier(name: str, depth: int) -> None:
    assert VARIANTS[name].num_weight_layers == depth


def test_table_holds_exactly_the_tested_networks() -> None:
    assert set(VARIANTS) == set(PARAMETERS)
