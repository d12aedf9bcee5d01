"""A whole training run in PyTorch.

To be read beside flax_densenet/training/loop.py, epoch.py and evaluation.py.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flax_densenet.data import Dataset, Split
from flax_densenet.data.batches import eval_batches, train_batches
from flax_densenet.errors import TrainingDiverged, require
from flax_densenet.training.config import FineTuningConfig, RunConfig
from torch_reference.preprocess import Preprocess
from torch_reference.step import TrainState, create_state, eval_step, train_step

Record = dict[str, Any]  # an epoch, as a line of metrics.jsonl

_SUPPORTED = {"dtype": ("float32", "float64"), "augment": ("none", "shift", "crop")}


class Trained(NamedTuple):
    """Result of a training run.

    Attributes:
      records: One per epoch, with the keys that `flax_densenet.training.fit` gives them.
      state: State after the last step.
    """

    records: list[Record]
    state: TrainState


def fit(
    run: RunConfig,
    dataset: Dataset,
    learning_rates: Sequence[float],
    *,
    state_dict: Mapping[str, Tensor] | None = None,
    after_epoch: Callable[[Record], None] = lambda record: None,
) -> Trained:
    """Trains the reference network as `flax_densenet.training.fit` trains the Flax one.

    Batches and their order are the same. Initial weights, augmentation and dropout are drawn by
    PyTorch from the run's seed; its global generator is as before afterwards.

    Args:
      run: What to train and how.
      dataset: Images that suit `run.network`.
      learning_rates: Learning rate of each step.
      state_dict: Initial weights, instead of PyTorch's own.
      after_epoch: Called with the record of each epoch.

    Raises:
      InputError: Network and data set do not fit, or the reference cannot train in this way.
      TrainingDiverged: A loss was not finite.
    """
    check_supported(run)
    classes, wanted = run.network.num_classes, dataset.num_classes
    require(classes == wanted, "num_classes", classes, f"{wanted}, the classes of {dataset.name}")
    optimization, data = run.optimization, run.data
    mean, std = data.mean, data.std
    require((mean is None) == (std is None), "mean", mean, f"given or not, as std (={std!r}) is")
    if mean is None or std is None:
        mean, std = dataset.channel_statistics()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(optimization.seed)
        state = create_state(
            run.network,
            learning_rates.__getitem__,
            Preprocess(mean, std, data.augment),
            seed=optimization.seed,
            weight_decay=optimization.weight_decay,
            label_smoothing=optimization.label_smoothing,
            max_gradient_norm=optimization.max_gradient_norm,
            ema_decay=optimization.ema_decay,
            state_dict=state_dict,
        )
        records = []
        for epoch in range(optimization.epochs):
            records.append(_run_epoch(state, run, dataset, epoch))
            after_epoch(records[-1])
    return Trained(records, state)


def check_supported(run: RunConfig) -> None:
    """Checks that the reference can train in this way.

    Raises:
      InputError: The run has another type or augmentation, or starts from trained weights.
    """
    for name, value in (("dtype", run.network.dtype), ("augment", run.data.augment)):
        wanted = f"one of {_SUPPORTED[name]}, which are all that the PyTorch reference trains with"
        require(value in _SUPPORTED[name], name, value, wanted)
    wanted = "left out: the PyTorch reference trains from initial weights"
    require(run.fine_tuning == FineTuningConfig(), "fine_tuning", run.fine_tuning, wanted)


def _run_epoch(state: TrainState, run: RunConfig, dataset: Dataset, epoch: int) -> Record:
    """Trains an epoch and evaluates."""
    batch_size = run.optimization.batch_size
    metrics = []
    seconds = {"data": 0.0, "step": 0.0}
    before = time.perf_counter()
    for batch in train_batches(dataset.train, batch_size, seed=run.optimization.seed, epoch=epoch):
        read = time.perf_counter()
        metrics.append(train_step(state, batch))
        done = time.perf_counter()
        seconds["data"] += read - before
        seconds["step"] += done - read
        before = done
    record: Record = {
        "epoch": epoch + 1,
        "step": state.step,
        "train_loss": float(np.mean([float(values["loss"]) for values in metrics])),
        "train_error": 1 - float(np.mean([float(values["accuracy"]) for values in metrics])),
    }
    _check_finite("training loss", record["train_loss"], state)
    before = time.perf_counter()
    for name, split in (("validation", dataset.validation), ("test", dataset.test)):
        if split is not None:
            result = _evaluate(state, split, batch_size)
            _check_finite(f"{name} loss", result["loss"], state)
            record |= {f"{name}_{quantity}": value for quantity, value in result.items()}
    parameters = list(state.model.parameters())
    return record | {
        "images_per_second": len(metrics) * batch_size / sum(seconds.values()),
        "seconds_data": seconds["data"],
        "seconds_step": seconds["step"],
        "seconds_evaluation": time.perf_counter() - before,
        "seconds_compile": 0.0,
        "learning_rate": state.schedule(state.step - 1),
        "parameters": sum(one.numel() for one in parameters),
        "trained_parameters": sum(one.numel() for one in parameters if one.requires_grad),
    }


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
