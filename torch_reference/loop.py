"""A whole training run in PyTorch: recipe, order of the data and records of flax_densenet.training.

To be read beside flax_densenet/training/loop.py, epoch.py and evaluation.py.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from flax_densenet.data import Dataset, Split
from flax_densenet.data.batches import eval_batches, steps_per_epoch, train_batches
from flax_densenet.errors import TrainingDiverged, require
from flax_densenet.training.config import RunConfig
from flax_densenet.training.epoch import describe_epoch
from flax_densenet.training.parts import find_parts, parameter_counts
from flax_densenet.training.records import Stopwatch
from flax_densenet.training.run_data import channel_statistics, check_dataset
from flax_densenet.training.state import run_schedule
from flax_densenet.training.workdir import Record
from torch_reference.preprocess import Preprocess
from torch_reference.step import TrainState, create_state, eval_step, train_step

_SUPPORTED = {"dtype": ("float32", "float64"), "augment": ("none", "shift", "crop")}


class Trained(NamedTuple):
    """What a training run leaves.

    Attributes:
      records: One per epoch, as `flax_densenet.training.fit` returns them.
      state: State after the last step.
    """

    records: list[Record]
    state: TrainState


def fit(run: RunConfig, dataset: Dataset, *, variables: Mapping[str, Any] | None = None) -> Trained:
    """Trains the reference network as `flax_densenet.training.fit` trains the Flax one.

    Optimizer, learning rates, batches and their order are the same. Initial weights, augmentation
    and dropout are drawn by PyTorch from the run's seed; its global generator is as before
    afterwards.

    Args:
      run: What to train and how.
      dataset: Images that suit `run.network`.
      variables: Initial weights as Flax variables, instead of PyTorch's own.

    Raises:
      InputError: Network and data set do not fit, or the reference cannot train in this way.
      TrainingDiverged: A loss was not finite.
    """
    check_supported(run)
    check_dataset(run, dataset)
    optimization = run.optimization
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(optimization.seed)
        steps = steps_per_epoch(len(dataset.train), optimization.batch_size)
        state = create_state(
            run.network,
            _learning_rates(run, steps).__getitem__,
            Preprocess(*channel_statistics(run, dataset), run.data.augment),
            seed=optimization.seed,
            weight_decay=optimization.weight_decay,
            label_smoothing=optimization.label_smoothing,
            max_gradient_norm=optimization.max_gradient_norm,
            ema_decay=optimization.ema_decay,
            parts=find_parts(run.network, run.fine_tuning),
            freeze_batch_norm=run.fine_tuning.freeze_batch_norm,
            variables=variables,
        )
        records = []
        for epoch in range(optimization.epochs):
            records.append(_run_epoch(state, run, dataset, epoch))
            print(describe_epoch(records[-1], optimization.epochs), flush=True)
    return Trained(records, state)


def check_supported(run: RunConfig) -> None:
    """Checks that the reference can train in this way.

    Raises:
      InputError: It computes in other types, or has not this augmentation.
    """
    for name, value in (("dtype", run.network.dtype), ("augment", run.data.augment)):
        wanted = f"one of {_SUPPORTED[name]}, which are all that the PyTorch reference trains with"
        require(value in _SUPPORTED[name], name, value, wanted)


def _learning_rates(run: RunConfig, steps_per_epoch: int) -> list[float]:
    """Returns the learning rate of every step; at once, since each call of optax takes its time."""
    schedule = run_schedule(run.optimization, steps_per_epoch)
    # int32 is what optax counts in: with int64 a warm-up would be rounded in another way.
    steps = jnp.arange(steps_per_epoch * run.optimization.epochs, dtype=jnp.int32)
    return np.asarray(jax.vmap(schedule)(steps)).tolist()


def _run_epoch(state: TrainState, run: RunConfig, dataset: Dataset, epoch: int) -> Record:
    """Trains an epoch and evaluates."""
    batch_size = run.optimization.batch_size
    metrics = []
    with Stopwatch() as watch:
        batches = train_batches(dataset.train, batch_size, seed=run.optimization.seed, epoch=epoch)
        for batch in watch.waiting_for("data", batches):
            with watch.part("step"):
                metrics.append(train_step(state, batch))
        losses = [float(values["loss"]) for values in metrics]
        record: Record = {
            "epoch": epoch + 1,
            "step": state.step,
            "train_loss": float(np.mean(losses)),
            "train_error": 1 - float(np.mean([float(values["accuracy"]) for values in metrics])),
        }
        _check_finite("training loss", record["train_loss"], state)
        with watch.part("evaluation"):
            for name, split in (("validation", dataset.validation), ("test", dataset.test)):
                if split is not None:
                    result = _evaluate(state, split, batch_size)
                    _check_finite(f"{name} loss", result["loss"], state)
                    record |= {f"{name}_{quantity}": value for quantity, value in result.items()}
        working = watch.seconds["data"] + watch.seconds["step"]
        record["images_per_second"] = len(metrics) * batch_size / working
        for part in ("data", "step", "evaluation", "compile"):
            record[f"seconds_{part}"] = watch.seconds[part]
        record["learning_rate"] = state.schedule(state.step - 1)
        record |= parameter_counts(run.network, run.fine_tuning)
    return record


def _evaluate(state: TrainState, split: Split, batch_size: int) -> dict[str, float]:
    """Returns mean "loss", "error" and "top5_error" over a split, each example counted once."""
    sums = [eval_step(state, batch) for batch in eval_batches(split, batch_size)]
    totals = {name: sum(float(values[name]) for values in sums) for name in sums[0]}
    return {
        "loss": totals["loss"] / totals["count"],
        "error": 1 - totals["correct"] / totals["count"],
        "top5_error": 1 - totals["in_top"] / totals["count"],
    }


def _check_finite(what: str, value: float, state: TrainState) -> None:
    if not math.isfinite(value):
        raise TrainingDiverged(
            f"{what} of the PyTorch reference is {value} in the epoch up to step {state.step}; "
            "training stopped. Try a smaller --learning_rate"
        )
