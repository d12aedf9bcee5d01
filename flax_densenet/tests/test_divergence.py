"""Tests of how flax_densenet/training/loop.py stops a run whose loss is not finite."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_densenet import DenseNetConfig
from flax_densenet.data import ArraySplit, Dataset
from flax_densenet.errors import TrainingDiverged
from flax_densenet.training import (
    DataConfig,
    OptimizationConfig,
    RunConfig,
    TrainState,
    WorkDir,
    fit,
    parallel,
)
from flax_densenet.training.checkpoints import CheckpointStore

RUN = RunConfig(
    network=DenseNetConfig(blocks=(1,), growth_rate=2, in_channels=1, num_classes=1),
    data=DataConfig(),
    optimization=OptimizationConfig(epochs=2, batch_size=8),
)


def dataset_of(num_train: int) -> Dataset:
    image = np.random.default_rng(0).integers(0, 256, (num_train, 4, 4, 1), np.uint8)
    split = ArraySplit(image, np.zeros(num_train, np.int32))
    return Dataset(name="mine", train=split, test=split, class_names=("a",))


Step = Callable[[TrainState, Any], Any]


def steps_with_loss(loss_of: Callable[[jax.Array], Any], test_loss: float) -> tuple[Step, Step]:
    """Steps that only count; the loss of training step i (from 1) is `loss_of(i)`."""

    def train(state: TrainState, batch: Any) -> Any:
        state = state.replace(step=state.step + 1)
        return state, {"loss": loss_of(state.step), "accuracy": jnp.asarray(0.5)}

    def evaluate(state: TrainState, batch: Any) -> Any:
        return {
            "loss": jnp.asarray(test_loss),
            "correct": jnp.asarray(1),
            "in_top": jnp.asarray(2),
            "count": jnp.asarray(2),
        }

    return train, evaluate


@pytest.mark.parametrize(
    ("num_train", "bad_step", "kept"),
    [
        (40, 7, 1),
        (40, 5, None),
        (40, 6, 1),
        (43 * 8, 33, None),
        (43 * 8, 40, None),
        (43 * 8, 83, 1),
    ],
)
def test_training_loss_that_is_not_finite_stops_the_run_and_names_the_step(
    num_train: int, bad_step: int, kept: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, evaluate = steps_with_loss(lambda step: jnp.where(step == bad_step, jnp.nan, 1.0), 1.0)
    monkeypatch.setattr(parallel, "train_step", train)
    monkeypatch.setattr(parallel, "eval_step", evaluate)
    state_of_checkpoints = f"the checkpoint of epoch {kept} is kept" if kept else "no epoch is done"
    message = f"^training loss is nan at step {bad_step}; .*{state_of_checkpoints}.*smaller --learn"
    with pytest.raises(TrainingDiverged, match=message):
        fit(RUN, dataset_of(num_train), WorkDir(tmp_path), resume=False)
    with CheckpointStore(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == (kept and num_train // 8)
    assert len(WorkDir(tmp_path).read_records()) == (kept or 0)


def test_test_loss_that_is_not_finite_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, evaluate = steps_with_loss(lambda step: jnp.asarray(1.0), math.inf)
    monkeypatch.setattr(parallel, "train_step", train)
    monkeypatch.setattr(parallel, "eval_step", evaluate)
    with pytest.raises(TrainingDiverged, match=r"^test loss is inf at step 5; "):
        fit(RUN, dataset_of(43), WorkDir(tmp_path), resume=False)
