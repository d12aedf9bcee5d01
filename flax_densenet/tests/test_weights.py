"""Tests of flax_densenet/weights/table.py without PyTorch (loading into it is in parity_tests/)."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util
from flax.core import FrozenDict

from flax_densenet import VARIANTS, DenseNetConfig, from_torch, to_torch_arrays

Shapes = Callable[[DenseNetConfig], dict[str, Any]]

# The stem gives 2 channels and the layer adds 2, so that the transition's 1x1 kernel is square.
CONFIG = DenseNetConfig(blocks=(1, 1), growth_rate=2, stem_width=2, num_classes=3)


@pytest.fixture
def variables(model_shapes: Shapes) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: draw.normal(size=leaf.shape).astype(np.float32), model_shapes(CONFIG)
    )


@pytest.fixture
def state_dict(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    return to_torch_arrays(variables, CONFIG)


def assert_equal_trees(tree: Any, other: Any) -> None:
    first, second = (traverse_util.flatten_dict(t) for t in (tree, other))
    assert set(first) == set(second)
    for path, array in first.items():
        assert array.dtype == second[path].dtype
        np.testing.assert_array_equal(array, second[path])


def test_convolutions_and_classifier_are_transposed_element_by_element(
    variables: dict[str, Any], state_dict: dict[str, np.ndarray]
) -> None:
    params = variables["params"]
    kernel, weight = params["conv0"]["kernel"], state_dict["features.conv0.weight"]
    assert (kernel.shape, weight.shape) == ((3, 3, 3, 2), (2, 3, 3, 3))
    assert weight[1, 2, 0, 1] == kernel[0, 1, 2, 1]
    assert weight[0, 1, 2, 0] == kernel[2, 0, 1, 0]
    kernel = params["transition1"]["conv"]["kernel"]
    weight = state_dict["features.transition1.conv.weight"]
    assert kernel.shape == (1, 1, 4, 4)
    for o in range(4):
        for i in range(4):
            assert weight[o, i, 0, 0] == kernel[0, 0, i, o]
    kernel, weight = params["classifier"]["kernel"], state_dict["classifier.weight"]
    assert (kernel.shape, weight.shape) == ((6, 3), (3, 6))
    assert weight[2, 5] == kernel[5, 2]


def test_square_kernel_of_torch_is_transposed_to_literal_values(
    state_dict: dict[str, np.ndarray],
) -> None:
    weight = np.arange(16, dtype=np.float32).reshape(4, 4, 1, 1)
    source = {**state_dict, "features.transition1.conv.weight": weight}
    kernel = from_torch(source, CONFIG)["params"]["transition1"]["conv"]["kernel"]
    rows = [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]]
    np.testing.assert_array_equal(kernel[0, 0], rows)


def test_round_trip_is_exact_from_either_side(
    variables: dict[str, Any], state_dict: dict[str, np.ndarray]
) -> None:
    assert_equal_trees(from_torch(state_dict, CONFIG), variables)
    draw = np.random.default_rng(9)
    source = {
        key: draw.normal(size=array.shape).astype(np.float16)
        for key, array in state_dict.items()
        if not key.endswith("num_batches_tracked")
    }
    back = to_torch_arrays(from_torch(source, CONFIG), CONFIG)
    assert_equal_trees({key: back[key] for key in source}, source)


def test_vectors_keep_their_meaning(
    variables: dict[str, Any], state_dict: dict[str, np.ndarray]
) -> None:
    params, statistics = variables["params"]["norm5"], variables["batch_stats"]["norm5"]
    for name, array in (
        ("weight", params["scale"]),
        ("bias", params["bias"]),
        ("running_mean", statistics["mean"]),
        ("running_var", statistics["var"]),
    ):
        np.testing.assert_array_equal(state_dict[f"features.norm5.{name}"], array)


def test_counters_are_optional_in_and_zero_int64_out(
    variables: dict[str, Any], state_dict: dict[str, np.ndarray]
) -> None:
    counters = {key for key in state_dict if key.endswith(".num_batches_tracked")}
    assert counters == {
        "features.denseblock1.denselayer1.norm1.num_batches_tracked",
        "features.transition1.norm.num_batches_tracked",
        "features.denseblock2.denselayer1.norm1.num_batches_tracked",
        "features.norm5.num_batches_tracked",
    }
    for key in counters:
        assert (state_dict[key].dtype, state_dict[key].shape) == (np.int64, ())
        assert state_dict[key] == 0
    without = {key: array for key, array in state_dict.items() if key not in counters}
    assert_equal_trees(from_torch(without, CONFIG), variables)


def test_keys_of_densenet121_are_those_of_torchvision(model_shapes: Shapes) -> None:
    config = VARIANTS["densenet121"]
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), model_shapes(config))
    arrays = to_torch_arrays(zeros, config)
    assert len(arrays) == 727
    assert sum(not key.endswith("num_batches_tracked") for key in arrays) == 606
    assert list(arrays)[:8] == [
        "features.conv0.weight",
        "features.norm0.weight",
        "features.norm0.bias",
        "features.norm0.running_mean",
        "features.norm0.running_var",
        "features.norm0.num_batches_tracked",
        "features.denseblock1.denselayer1.norm1.weight",
        "features.denseblock1.denselayer1.norm1.bias",
    ]
    for key, shape in {
        "features.denseblock1.denselayer1.conv1.weight": (128, 64, 1, 1),
        "features.denseblock1.denselayer1.norm2.running_mean": (128,),
        "features.denseblock4.denselayer16.conv2.weight": (32, 128, 3, 3),
        "features.transition1.norm.bias": (256,),
        "features.transition1.conv.weight": (128, 256, 1, 1),
        "features.norm5.running_var": (1024,),
        "classifier.weight": (1000, 1024),
        "classifier.bias": (1000,),
    }.items():
        assert arrays[key].shape == shape


def read_only(tree: Any) -> Any:
    is_leaf = not isinstance(tree, dict)
    return tree if is_leaf else MappingProxyType({k: read_only(v) for k, v in tree.items()})


@pytest.mark.parametrize("wrap", [FrozenDict, read_only])
def test_frozen_mappings_of_device_arrays_are_accepted(
    wrap: Callable[[Any], Any], variables: dict[str, Any], state_dict: dict[str, np.ndarray]
) -> None:
    frozen = wrap(jax.tree.map(jax.numpy.asarray, variables))
    assert_equal_trees(to_torch_arrays(frozen, CONFIG), state_dict)


def test_results_do_not_change_with_the_source(
    variables: dict[str, Any], state_dict: dict[str, np.ndarray]
) -> None:
    converted = from_torch(state_dict, CONFIG)
    kept = jax.tree.map(np.copy, variables)
    for array in (*jax.tree.leaves(variables), *state_dict.values()):
        array[...] = 77
    assert_equal_trees(converted, kept)
    state_dict = to_torch_arrays(converted, CONFIG)
    kept_scale = state_dict["features.norm5.weight"].copy()
    converted["params"]["norm5"]["scale"][...] = 88
    np.testing.assert_array_equal(state_dict["features.norm5.weight"], kept_scale)
