"""Tests of flax_densenet/training/config.py."""

import dataclasses
import json
import re
from typing import Any

import pytest

from flax_densenet import DenseNetConfig, InputError
from flax_densenet.training import DataConfig, OptimizationConfig, RunConfig

RUN = RunConfig(
    network=DenseNetConfig(blocks=(6, 12), growth_rate=32, compression=0.5, dtype="bfloat16"),
    data=DataConfig(dataset="tfds:cifar10", data_dir="/data", augment="shift"),
    optimization=OptimizationConfig(epochs=3, learning_rate=0.05, seed=9),
)


@pytest.mark.parametrize("network", [RUN.network, DenseNetConfig(depth=40, stem_width=24)])
def test_json_round_trip_is_equal(network: DenseNetConfig) -> None:
    run = dataclasses.replace(RUN, network=network)
    read = RunConfig.from_json(run.to_json())
    assert read == run
    assert hash(read) == hash(run)
    assert read.network.blocks == network.blocks  # a tuple again, not JSON's list


def test_json_text_holds_every_field_under_its_name() -> None:
    text = RUN.to_json()
    assert text.endswith("}\n")
    groups = json.loads(text)
    assert set(groups) == {"network", "data", "optimization", "fine_tuning"}
    assert groups["network"]["blocks"] == [6, 12]
    assert groups["data"] == {
        "dataset": "tfds:cifar10",
        "data_dir": "/data",
        "augment": "shift",
        "validation_images": 0,
        "image_size": None,
        "broken_images": "stop",
        "mean": None,
        "std": None,
        "pixel_range": None,
    }
    assert groups["optimization"] == {
        "epochs": 3,
        "batch_size": 64,
        "learning_rate": 0.05,
        "schedule": "steps",
        "drops": [0.5, 0.75],
        "warmup_epochs": 0,
        "weight_decay": 0.0001,
        "max_gradient_norm": None,
        "label_smoothing": 0.0,
        "ema_decay": None,
        "synchronized_batch_norm": True,
        "seed": 9,
    }


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "JSONDecodeError"),
        ('{"network": {', "JSONDecodeError"),
        ("[]", "TypeError"),
        ("3", "TypeError"),
        ("{}", "KeyError: 'network'"),
        ('{"network": {}, "data": {}}', "KeyError: 'optimization'"),
        (
            '{"network": {"grwth_rate": 3}, "data": {}, "optimization": {}}',
            "TypeError: .*unexpected keyword argument 'grwth_rate'",
        ),
        ('{"network": 5, "data": {}, "optimization": {}}', "TypeError"),
    ],
)
def test_text_that_is_no_run_is_refused(text: str, detail: str) -> None:
    message = rf"config.json is not that of a training run \({detail}.*\); start a new run"
    with pytest.raises(InputError, match=message):
        RunConfig.from_json(text)


def test_wrong_value_in_the_text_is_named() -> None:
    text = RUN.to_json().replace('"growth_rate": 32', '"growth_rate": 0')
    with pytest.raises(InputError, match=r"growth_rate \(=0\) must be an integer of at least 1"):
        RunConfig.from_json(text)


def test_differences_name_both_values() -> None:
    other = dataclasses.replace(
        RUN,
        network=dataclasses.replace(RUN.network, growth_rate=12),
        optimization=dataclasses.replace(RUN.optimization, seed=1),
    )
    assert RUN.differences(other) == {"growth_rate": (32, 12), "seed": (9, 1)}
    assert RUN.differences(dataclasses.replace(RUN)) == {}


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        *(("epochs", value, "an integer of at least 1") for value in (0, -1, 2.5, "3", True)),
        *(("batch_size", value, "an integer of at least 1") for value in (0, 2.5, "64")),
        *(("seed", value, "an integer of at least 0") for value in (-1, 0.5)),
        *(("learning_rate", v, "a number above 0") for v in (0, -0.1, float("nan"), float("inf"))),
        *(("weight_decay", v, "a number of at least 0") for v in (-1, float("nan"), float("inf"))),
        ("schedule", "linear", r"one of \('steps', 'cosine'\)"),
        *(("warmup_epochs", v, "a number of at least 0 and below epochs") for v in (-1, 300)),
        *(("max_gradient_norm", value, "a number above 0") for value in (0, -1)),
        *(("label_smoothing", value, r"a number in \[0, 1\)") for value in (-0.1, 1)),
        *(("ema_decay", value, r"a number in \(0, 1\)") for value in (0, 1)),
    ],
)
def test_wrong_optimization_is_refused(name: str, value: Any, wanted: str) -> None:
    with pytest.raises(InputError, match=rf"{name} \(={value!r}\) must be {wanted}"):
        OptimizationConfig(**{name: value})


@pytest.mark.parametrize("drops", [(0.0, 0.5), (0.5, 0.5), (0.75, 0.5), (0.5, 1.0)])
def test_drops_that_do_not_rise_inside_the_training_are_refused(drops: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"drops \(=.*\) must be rising numbers between 0 and 1"):
        OptimizationConfig(drops=drops)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("augment", "flip", r"one of \('none', 'shift', 'crop', 'crop_color'\)"),
        ("broken_images", "keep", r"one of \('stop', 'skip'\)"),
        *(("validation_images", value, "an integer of at least 0") for value in (-1, 2.5)),
        *(("image_size", value, "an integer of at least 1") for value in (0, 2.5)),
        ("std", (1.0, 0.0), "numbers above 0, one for each channel"),
    ],
)
def test_wrong_data_is_refused(name: str, value: Any, wanted: str) -> None:
    with pytest.raises(InputError, match=rf"{name} \(={re.escape(repr(value))}\) must be {wanted}"):
        DataConfig(**{name: value})


def test_smallest_optimization_is_accepted() -> None:
    smallest = OptimizationConfig(epochs=1, batch_size=1, seed=0, weight_decay=0)
    assert (smallest.epochs, smallest.weight_decay) == (1, 0)
