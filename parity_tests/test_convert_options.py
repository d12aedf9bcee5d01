"""Converting networks with options: what weights tell of them, and what flags must tell."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import torch_reference
from flax_densenet import DenseNetConfig, InputError
from flax_densenet.cli.main import main
from flax_densenet.parity.random_inputs import random_variables
from flax_densenet.parity.theirs.counterpart import find_counterpart
from flax_densenet.training.config import RunConfig
from flax_densenet.weights.checkpoint import flat
from flax_densenet.weights.load import load_checkpoint
from flax_densenet.weights.table import from_torch, to_torch
from parity_tests.networks import OPTION_CASES

_UNTOLD: dict[str, Any] = {"activation": "relu", "transition_pool": "avg"}
_TANH = DenseNetConfig(blocks=(1, 2), growth_rate=4, activation="tanh", transition_pool="max")
_PLAIN = dataclasses.replace(_TANH, **_UNTOLD)


def save(config: DenseNetConfig, path: Path) -> Path:
    torch.save(to_torch(random_variables(config), config), path)
    return path


def convert(*args: object) -> int:
    return main(["convert", *map(str, args)])


@pytest.mark.parametrize(
    "config",
    [
        *(case.config for case in OPTION_CASES.values()),
        DenseNetConfig(depth=10, growth_rate=12, groups=3, stem_width=12, kernel_size=7),
        DenseNetConfig(depth=10, growth_rate=4, groups=2, stem_width=4),
        DenseNetConfig(depth=10, growth_rate=4, stem_width=4, order="conv-norm-act"),
        DenseNetConfig(depth=10, growth_rate=4, stem_width=4),
        DenseNetConfig(blocks=(1, 1), growth_rate=20, attention="se"),
        DenseNetConfig(blocks=(1, 1), growth_rate=20, attention="se", attention_reduction=3),
        DenseNetConfig(blocks=(2,), growth_rate=8, bottleneck=True, groups=8),
    ],
    ids=lambda config: config.title,
)
def test_options_that_weights_tell_are_inferred(config: DenseNetConfig, tmp_path: Path) -> None:
    found = load_checkpoint(save(config, tmp_path / "weights.pth")).config
    told = dict(_UNTOLD)
    if config.activation == "prelu":
        told.pop("activation")
    assert found.title == dataclasses.replace(config, **told).title
    assert found.block_sizes == config.block_sizes
    assert found.attention_channels == config.attention_channels


def test_attention_of_another_width_is_refused(tmp_path: Path) -> None:
    config = DenseNetConfig(blocks=(1,), growth_rate=12, attention="se", attention_reduction=2)
    state = to_torch(random_variables(config), config)
    name = "features.denseblock1.denselayer1.attention.fc1.weight"
    state[name] = state[name][:5]  # 12 / 2 is 6, 12 / 3 is 4
    torch.save(state, tmp_path / "weights.pth")
    message = rf"{name} has 5 output channels; wanted the growth rate, 12, divided"
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "weights.pth")


def test_what_weights_do_not_tell_is_told_by_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(_TANH, tmp_path / "tanh.pth")
    flags = ("--activation", "tanh", "--transition_pool", "max")
    assert convert(source, tmp_path / "flax.safetensors", *flags) == 0
    assert "verified   logits of both networks differ by" in capsys.readouterr().out
    read = load_checkpoint(tmp_path / "flax.safetensors")
    assert (read.config.activation, read.config.transition_pool) == ("tanh", "max")
    assert convert(tmp_path / "flax.safetensors", tmp_path / "back.pth") == 0
    text = capsys.readouterr().out
    assert f"network    {_TANH.title}, blocks" in text
    assert (
        "note: the arrays in back.pth do not show --activation tanh --transition_pool max" in text
    )
    first, second = torch.load(source), torch.load(tmp_path / "back.pth")
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("config", "flags", "message"),
    [
        (_TANH, ("--activation", "sigmoid"), "activation (=sigmoid) is not the tanh of"),
        (_TANH, ("--transition_pool", "avg"), "transition_pool (=avg) is not the max of"),
        (_PLAIN, ("--activation", "prelu"), "activation (=prelu) is not the relu of"),
        (
            dataclasses.replace(_PLAIN, activation="prelu"),
            ("--activation", "relu"),
            "activation (=relu) is not the prelu of",
        ),
        (_TANH, ("--variant", "densenet121"), "where DenseNet-BC (L=121, k=32) was asked for: "),
    ],
    ids=str,
)
def test_flags_that_a_file_contradicts_are_refused(
    config: DenseNetConfig,
    flags: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = save(config, tmp_path / "weights.pth")
    told = ["--transition_pool", config.transition_pool]
    if config.activation != "prelu":
        told += ["--activation", config.activation]
    assert convert(source, tmp_path / "told.safetensors", *told, "--no_verify") == 0
    assert convert(tmp_path / "told.safetensors", tmp_path / "x", *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_module_of_ones_own_takes_flags_for_what_it_does_not_tell(tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text(
        "import torch_reference\nfrom flax_densenet import DenseNetConfig\n"
        f"def build():\n    return torch_reference.DenseNet({_TANH!r})\n"
    )
    assert find_counterpart(f"{source}:build", _TANH).config == _TANH
    for change, message in (
        ({"kernel_size": 5}, "kernel_size is 3, not 5;"),
        ({"activation": "prelu"}, "activation is relu, not prelu;"),
        ({"order": "conv-norm-act"}, "order is norm-act-conv, not conv-norm-act;"),
        ({"groups": 4}, "groups is 1, not 4;"),
        ({"attention": "se"}, "attention is none, not se;"),
    ):
        asked = dataclasses.replace(_TANH, **change)
        with pytest.raises(InputError, match=message):
            find_counterpart(f"{source}:build", asked)


def test_records_from_before_the_options_can_be_read() -> None:
    text = (Path(__file__).parents[1] / "docs/runs/fashion-mnist-bc-22-12/config.json").read_text()
    assert "activation" not in json.loads(text)["network"]
    assert RunConfig.from_json(text).network.options == {}


def test_state_dict_of_the_reference_is_ours() -> None:
    config = OPTION_CASES["PReLU, groups, attention"].config
    state = torch_reference.DenseNet(config).state_dict()
    assert "features.denseblock1.denselayer1.prelu1.weight" in state
    variables = flat(from_torch(state, config))
    assert variables["params/denseblock1/denselayer1/prelu1/slope"] == np.float32(0.25)
    assert variables["params/denseblock1/denselayer1/attention/fc1/kernel"].shape == (4, 2)
