"""Tests of flax_densenet/network/config.py."""

import dataclasses
import re
from typing import Any

import pytest

from flax_densenet import VARIANTS, DenseNetConfig, InputError


@pytest.mark.parametrize(
    ("depth", "bottleneck", "rule", "nearest"),
    [
        (41, False, "3n+4 for a plain", "40 and 43"),
        (42, False, "3n+4 for a plain", "40 and 43"),
        (41, True, "6n+4 for a bottleneck", "40 and 46"),
        (43, True, "6n+4 for a bottleneck", "40 and 46"),
        (5, False, "3n+4 for a plain", "7"),
        (4, False, "3n+4 for a plain", "7"),
        (1, True, "6n+4 for a bottleneck", "10"),
    ],
)
def test_depth_that_no_block_size_gives_names_the_nearest_valid_depths(
    depth: int, bottleneck: bool, rule: str, nearest: str
) -> None:
    message = rf"depth \(={depth}\) must be {re.escape(rule)} .*nearest valid: {nearest}$"
    with pytest.raises(InputError, match=message):
        DenseNetConfig(depth=depth, bottleneck=bottleneck)


@pytest.mark.parametrize(
    ("depth", "bottleneck", "layers"),
    [(7, False, 1), (10, False, 2), (40, False, 12), (10, True, 1), (100, True, 16)],
)
def test_depth_gives_three_equal_blocks(depth: int, bottleneck: bool, layers: int) -> None:
    config = DenseNetConfig(depth=depth, bottleneck=bottleneck)
    assert config.block_sizes == (layers, layers, layers)
    assert config.num_weight_layers == depth


INTEGER = "an integer of at least 1"
INTERVALS = {
    "compression": r"\(0, 1\]",
    "dropout_rate": r"\[0, 1\)",
    "batch_norm_momentum": r"\(0, 1\]",
    "batch_norm_epsilon": r"\(0, 1\)",
}


@pytest.mark.parametrize("value", ["12", True, 2.5, 0, -3])
@pytest.mark.parametrize(
    "name",
    [
        "growth_rate",
        "bottleneck_factor",
        "num_classes",
        "in_channels",
        "depth",
        "stem_width",
        "kernel_size",
        "groups",
        "attention_reduction",
    ],
)
def test_integer_fields_refuse_other_values(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name} \(={value!r}\) must be {INTEGER}$"):
        DenseNetConfig(**{name: value})


@pytest.mark.parametrize("value", ["0.5", True, None, float("nan"), -0.1, 1.1])
@pytest.mark.parametrize("name", INTERVALS)
def test_fractions_refuse_other_values(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name} \(={value!r}\) must be .*{INTERVALS[name]}$"):
        DenseNetConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("compression", False, True),
        ("dropout_rate", True, False),
        ("batch_norm_momentum", False, True),
        ("batch_norm_epsilon", False, False),
    ],
)
def test_fractions_include_exactly_the_closed_ends(name: str, low: bool, high: bool) -> None:
    for value, allowed in ((0.0, low), (1.0, high)):
        if allowed:
            assert getattr(DenseNetConfig(**{name: value}), name) == value  # type: ignore[arg-type]
        else:
            with pytest.raises(InputError, match=rf"{name} \(={value}\)"):
                DenseNetConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bottleneck": 1}, r"bottleneck \(=1\) must be True or False"),
        ({"stem": "vgg"}, r"stem \(='vgg'\) must be one of \('cifar', 'imagenet'\)"),
        ({"dtype": "int8"}, r"dtype \(='int8'\) must be one of \('float32', 'bfloat16', 'float64'"),
        ({"activation": "gelu"}, r"activation \(='gelu'\) must be one of \('relu', 'leaky_relu'"),
        ({"order": "act-norm-conv"}, r"order \(='act-norm-conv'\) must be .*'conv-norm-act'"),
        ({"transition_pool": "sum"}, r"transition_pool \(='sum'\) must be .*'avg', 'max'"),
        ({"attention": True}, r"attention \(=True\) must be one of \('none', 'se'\)"),
        ({"kernel_size": 4}, r"kernel_size \(=4\) must be odd"),
        ({"attention_reduction": 8}, r"attention_reduction \(=8\) has no effect without attention"),
        (
            {"groups": 5},
            r"groups \(=5\) must divide growth_rate \(=12\), the output channels of "
            r"denseblock1.denselayer1.conv1",
        ),
        (
            {"groups": 8, "growth_rate": 12, "bottleneck": True},
            r"growth_rate \(=12\), .* denseblock1.denselayer1.conv2",
        ),
        (
            {"groups": 3},
            r"groups \(=3\) must divide the 16 input channels of denseblock1.denselayer1.conv1; "
            "choose stem_width",
        ),
        (
            {"groups": 4, "blocks": (3, 1), "compression": 0.5},
            r"groups \(=4\) must divide the 26 input channels of denseblock2.denselayer1.conv1",
        ),
        ({"blocks": ()}, r"blocks \(=\(\)\) must be a tuple"),
        ({"blocks": 6}, r"blocks \(=6\) must be a tuple"),
        ({"blocks": (6, 0)}, rf"every entry of blocks \(=0\) must be {INTEGER}"),
        ({"blocks": (6, True)}, rf"every entry of blocks \(=True\) must be {INTEGER}"),
        ({"depth": 40, "blocks": (6, 6)}, r"depth \(=40\) and blocks \(=\(6, 6\)\) are both given"),
        ({"stem": "imagenet"}, r"blocks \(=None\) must be .*\(6, 12, 24, 16\)"),
        ({"stem": "imagenet", "depth": 121}, r"depth \(=121\) .* give blocks"),
    ],
)
def test_other_wrong_fields_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DenseNetConfig(**fields)


def test_list_of_blocks_becomes_a_hashable_tuple() -> None:
    config = DenseNetConfig(blocks=[2, 3])  # type: ignore[arg-type]
    assert config.blocks == (2, 3)
    assert {config: "found"}[DenseNetConfig(blocks=(2, 3))] == "found"


@pytest.mark.parametrize(
    ("fields", "width"),
    [
        ({}, 16),
        ({"compression": 0.5}, 16),
        ({"bottleneck": True}, 24),
        ({"stem": "imagenet", "blocks": (1, 1)}, 24),
        ({"bottleneck": True, "stem_width": 20}, 20),
        ({"stem_width": 24}, 24),
    ],
)
def test_stem_width_follows_the_paper_unless_given(fields: dict[str, Any], width: int) -> None:
    assert DenseNetConfig(growth_rate=12, **fields).stem_channels == width


def test_replacing_the_growth_rate_changes_every_width() -> None:
    config = DenseNetConfig(growth_rate=12, bottleneck=True)
    wider = dataclasses.replace(config, growth_rate=24)
    assert (config.stem_channels, config.bottleneck_channels) == (24, 48)
    assert (wider.stem_channels, wider.bottleneck_channels) == (48, 96)


@pytest.mark.parametrize(
    ("compression", "channels", "kept"), [(1.0, 37, 37), (0.5, 35, 17), (0.3, 2, 1), (0.7, 10, 7)]
)
def test_transition_keeps_the_rounded_down_share(
    compression: float, channels: int, kept: int
) -> None:
    assert DenseNetConfig(compression=compression).transition_channels(channels) == kept


@pytest.mark.parametrize(
    ("fields", "title", "slug"),
    [
        ({}, "DenseNet (L=40, k=12)", "densenet-40-12"),
        ({"depth": 10, "bottleneck": True}, "DenseNet-B (L=10, k=12)", "densenet-b-10-12"),
        ({"compression": 0.5}, "DenseNet-C (L=40, k=12)", "densenet-c-40-12"),
        (
            {"depth": 100, "bottleneck": True, "compression": 0.5},
            "DenseNet-BC (L=100, k=12)",
            "densenet-bc-100-12",
        ),
        (
            {"activation": "leaky_relu", "order": "conv-norm-act", "kernel_size": 5},
            "DenseNet (L=40, k=12, activation=leaky_relu, order=conv-norm-act, kernel_size=5)",
            "densenet-40-12-activation-leaky-relu-order-conv-norm-act-kernel-size-5",
        ),
        (
            {"attention": "se", "attention_reduction": 4, "groups": 2},
            "DenseNet (L=40, k=12, groups=2, attention=se, attention_reduction=4)",
            "densenet-40-12-groups-2-attention-se-attention-reduction-4",
        ),
    ],
)
def test_title_and_slug_write_the_net_as_the_paper(
    fields: dict[str, Any], title: str, slug: str
) -> None:
    config = DenseNetConfig(**fields)
    assert (config.title, config.slug) == (title, slug)


@pytest.mark.parametrize(("reduction", "width"), [(16, 1), (4, 3), (5, 2), (1, 12), (13, 1)])
def test_hidden_layer_of_the_attention_is_rounded_down_and_never_empty(
    reduction: int, width: int
) -> None:
    config = DenseNetConfig(growth_rate=12, attention="se", attention_reduction=reduction)
    assert config.attention_channels == width


def test_networks_of_the_paper_have_no_options() -> None:
    assert all(not config.options for config in VARIANTS.values())
