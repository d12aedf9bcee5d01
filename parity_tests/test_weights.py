"""Rung 1: weights pass from one framework to the other and back without a changed bit."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from flax import traverse_util

import torch_reference
from flax_densenet import VARIANTS, InputError, count_parameters, from_torch, to_torch
from flax_densenet.parity.random_inputs import random_variables
from flax_densenet.weights.table import correspondence
from parity_tests.halves import reference_half
from parity_tests.networks import CASES, OPTION_CASES, Case

_ALL_CASES = CASES | OPTION_CASES
_TORCHVISION_KEYS = Path(__file__).parent / "data" / "torchvision_keys.json.gz"


def test_flax_to_torch_and_back_changes_no_bit(case: Case) -> None:
    variables = random_variables(case.config)
    state_dict = reference_half(case.config, variables).model.state_dict()
    back = traverse_util.flatten_dict(from_torch(state_dict, case.config))
    for path, array in traverse_util.flatten_dict(variables).items():
        assert back[path].dtype == array.dtype
        np.testing.assert_array_equal(back[path], array, err_msg="/".join(path))


@pytest.mark.parametrize("name", _ALL_CASES)
def test_torch_to_flax_and_back_changes_no_bit(name: str) -> None:
    config = _ALL_CASES[name].config
    model = torch_reference.DenseNet(config)
    model(torch.randn(_ALL_CASES[name].image_shape))  # statistics that are not the initial ones
    before = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    after = to_torch(from_torch(before, config), config)
    assert [k for k in after if "num_batches" not in k] == list(before)
    for key, value in before.items():
        assert torch.equal(after[key], value), key
    assert not torch_reference.DenseNet(config).load_state_dict(after, strict=True).missing_keys


@pytest.mark.parametrize("name", _ALL_CASES)
def test_each_layer_has_as_many_parameters_as_in_torch(name: str) -> None:
    config = _ALL_CASES[name].config
    with torch.device("meta"):
        named = dict(torch_reference.DenseNet(config).named_parameters())
    ours = {
        row.key: int(np.prod(row.flax_shape))
        for row in correspondence(config)
        if row.leaf.collection == "params"
    }
    assert ours == {key: value.numel() for key, value in named.items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_named_network_has_as_many_parameters_as_in_torch(name: str) -> None:
    with torch.device("meta"):
        model = torch_reference.DenseNet(VARIANTS[name])
    assert sum(p.numel() for p in model.parameters()) == count_parameters(VARIANTS[name])


@pytest.mark.parametrize("name", ["densenet121", "densenet161", "densenet169", "densenet201"])
def test_reference_has_the_state_dict_of_torchvision(name: str) -> None:
    with gzip.open(_TORCHVISION_KEYS) as file:
        torchvision = json.load(file)["models"][name]
    with torch.device("meta"):
        state_dict = torch_reference.DenseNet(VARIANTS[name]).state_dict()
    ours = [(key, list(value.shape)) for key, value in state_dict.items()]
    assert ours == [(key, shape) for key, (shape, _) in torchvision.items()]


def test_bfloat16_tensor_is_refused_with_its_name() -> None:
    config = CASES["plain"].config
    state_dict = {k: v.bfloat16() for k, v in torch_reference.DenseNet(config).state_dict().items()}
    with pytest.raises(InputError, match=r"features.conv0.weight has dtype .*bfloat16.*\.float"):
        from_torch(state_dict, config)


@pytest.mark.parametrize("name", OPTION_CASES)
def test_options_survive_the_way_to_torch_and_back(name: str) -> None:
    config = OPTION_CASES[name].config
    variables = random_variables(config)
    back = traverse_util.flatten_dict(from_torch(to_torch(variables, config), config))
    for path, array in traverse_util.flatten_dict(variables).items():
        np.testing.assert_array_equal(back[path], array, err_msg="/".join(path))
    assert count_parameters(config) == sum(
        value.size for path, value in back.items() if path[0] == "params"
    )
