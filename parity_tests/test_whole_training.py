"""Rung 5: whole trainings through both loops, with data order, schedule, evaluation and records."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

from flax_densenet import DenseNetConfig, InputError, to_torch, to_torch_arrays
from flax_densenet.data import Dataset
from flax_densenet.data.dataset import hold_out
from flax_densenet.data.readers.digits import load_digits
from flax_densenet.errors import TrainingDiverged
from flax_densenet.parity.learning_curves import learning_rates
from flax_densenet.parity.tolerances import TOLERANCES
from flax_densenet.training import (
    DataConfig,
    OptimizationConfig,
    Preprocess,
    RunConfig,
    fit,
    open_workdir,
)
from flax_densenet.training.checkpoints import CheckpointStore
from flax_densenet.training.config import FineTuningConfig
from flax_densenet.training.state import network_state
from parity_tests.halves import assert_close
from torch_reference import loop

_PARTS = ("data", "step", "evaluation", "compile")
_TIMES = {"images_per_second", *(f"seconds_{part}" for part in _PARTS)}
_EPOCHS, _STEPS, _BATCH_SIZE = 2, 10, 16
# Drops at the steps 7 and 15 of 20.
_PLAIN = OptimizationConfig(
    epochs=_EPOCHS, batch_size=_BATCH_SIZE, learning_rate=0.05, drops=(0.35, 0.75), seed=3
)
RECIPES = {
    "paper": _PLAIN,
    "everything else": dataclasses.replace(
        _PLAIN,
        schedule="cosine",
        warmup_epochs=0.5,
        weight_decay=1e-2,
        max_gradient_norm=0.5,
        label_smoothing=0.1,
        ema_decay=0.8,
    ),
}


def _run(optimization: OptimizationConfig) -> RunConfig:
    return RunConfig(
        network=DenseNetConfig(depth=7, growth_rate=4, in_channels=1, dtype="float64"),
        # (pixel - 128) / 64 has no rounding in float32, so both halves get the same input.
        data=DataConfig(mean=(128.0,), std=(64.0,)),
        optimization=optimization,
    )


@pytest.fixture
def digits() -> Dataset:
    """A slice of the digits: 10 steps and a rest, a validation split, a batch to be filled up."""
    whole = load_digits()
    train = whole.train.subset(np.arange(_STEPS * _BATCH_SIZE + 5 + 20))
    parts = dataclasses.replace(whole, train=train, test=whole.test.subset(np.arange(40)))
    return hold_out(parts, 20)


@pytest.fixture
def float64() -> Iterator[None]:
    """Lets JAX compute in float64."""
    with jax.enable_x64(True):
        yield


def _initial_variables(run: RunConfig) -> dict[str, Any]:
    """Returns the weights that `flax_densenet.training.fit` starts from."""
    preprocess = Preprocess((128.0,), (64.0,), "none")
    return network_state(run.network, preprocess, optimization=run.optimization).variables


def _fit_torch(
    run: RunConfig, data: Dataset, variables: dict[str, Any] | None = None
) -> loop.Trained:
    start = None if variables is None else to_torch(variables, run.network)
    return loop.fit(run, data, learning_rates(run, data), state_dict=start)


def _fit_flax(run: RunConfig, data: Dataset, path: Path) -> tuple[list[dict[str, Any]], Any]:
    workdir = open_workdir(path, resume=False)
    records = fit(run, data, workdir, resume=False)
    like = network_state(run.network, Preprocess((128.0,), (64.0,), "none"))
    with CheckpointStore(workdir.checkpoints, read_only=True) as checkpoints:
        return records, checkpoints.restore_variables(_EPOCHS * _STEPS, like=like)


def _evaluated_weights(state: loop.TrainState) -> dict[str, np.ndarray]:
    network = state.model if state.average is None else state.average.module
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def _values(records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {
        f"{name} of epoch {record['epoch']}": np.asarray(value)
        for record in records
        for name, value in record.items()
        if name not in _TIMES
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_both_loops_give_the_same_records_and_weights(
    recipe: str, digits: Dataset, float64: None, tmp_path: Path
) -> None:
    run = _run(RECIPES[recipe])
    records, variables = _fit_flax(run, digits, tmp_path)
    trained = _fit_torch(run, digits, _initial_variables(run))
    assert [set(record) for record in trained.records] == [set(record) for record in records]
    tolerance = TOLERANCES["float64"].training
    ours, theirs = _values(records), _values(trained.records)
    rates = [name for name in theirs if name.startswith("learning_rate")]
    # The optimizers divide an int32 step by the steps of the warm-up, which rounds to float32; the
    # record of the Flax loop divides a Python number.
    assert_close({k: ours.pop(k) for k in rates}, {k: theirs.pop(k) for k in rates}, 1e-7)
    assert_close(ours, theirs, tolerance)
    ours, theirs = to_torch_arrays(variables, run.network), _evaluated_weights(trained.state)
    learned = [name for name in theirs if not name.endswith("num_batches_tracked")]
    assert_close({k: ours[k] for k in learned}, {k: theirs[k] for k in learned}, tolerance)
    assert records[1]["train_loss"] < records[0]["train_loss"]


def test_another_recipe_or_order_is_seen(digits: Dataset, float64: None) -> None:
    variables = _initial_variables(_run(_PLAIN))

    def records(**change: Any) -> dict[str, np.ndarray]:
        run = _run(dataclasses.replace(_PLAIN, **change))
        return _values(_fit_torch(run, digits, variables).records)

    right = records()
    for change in ({"seed": 4}, {"drops": (0.4, 0.75)}, {"weight_decay": 2e-4}):
        with pytest.raises(AssertionError, match="differ"):
            assert_close(records(**change), right, 1e-6)


def _float32(**network: Any) -> RunConfig:
    run = _run(dataclasses.replace(_PLAIN, epochs=1, drops=()))
    fields = {"dtype": "float32", **network}
    return dataclasses.replace(run, network=dataclasses.replace(run.network, **fields))


def test_the_seed_decides_everything_and_the_global_generator_stays(digits: Dataset) -> None:
    run = _float32(dropout_rate=0.2)
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, augment="shift"))
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    first = _values(_fit_torch(run, digits).records)
    assert torch.equal(torch.rand(1), expected)
    again = _values(_fit_torch(run, digits).records)
    assert first == again
    reseeded = dataclasses.replace(run.optimization, seed=4)
    other = _values(_fit_torch(dataclasses.replace(run, optimization=reseeded), digits).records)
    assert other["train_loss of epoch 1"] != first["train_loss of epoch 1"]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            _float32(dtype="bfloat16"),
            r"dtype \(='bfloat16'\) must be one of \('float32', 'float64'",
        ),
        (
            dataclasses.replace(_float32(), data=DataConfig(augment="crop_color")),
            r"augment \(='crop_color'\) must be one of \('none', 'shift', 'crop'\), which are all",
        ),
        (_float32(num_classes=3), r"num_classes \(=3\) must be 10"),
        (
            dataclasses.replace(_float32(), fine_tuning=FineTuningConfig(init_from="weights")),
            r"fine_tuning \(=.*\) must be left out: the PyTorch reference trains from initial",
        ),
        (
            dataclasses.replace(_float32(), data=DataConfig(mean=(128.0,))),
            r"mean \(=\(128.0,\)\) must be given or not, as std \(=None\) is",
        ),
    ],
    ids=["bfloat16", "crop_color", "classes", "trained weights", "mean alone"],
)
def test_what_the_reference_cannot_train_is_refused(
    run: RunConfig, message: str, digits: Dataset
) -> None:
    with pytest.raises(InputError, match=message):
        _fit_torch(run, digits)


def test_divergence_is_an_error(digits: Dataset) -> None:
    run = _float32()
    optimization = dataclasses.replace(run.optimization, learning_rate=1e30)
    with pytest.raises(TrainingDiverged, match="loss of the PyTorch reference is nan in the epoch"):
        _fit_torch(dataclasses.replace(run, optimization=optimization), digits)
