"""One epoch: its steps, the evaluation after them, and the record of both."""

import math
import time
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from flax_densenet.data import Dataset
from flax_densenet.data.batches import train_batches
from flax_densenet.errors import TrainingDiverged
from flax_densenet.training.evaluation import evaluate
from flax_densenet.training.parallel import ParallelSteps
from flax_densenet.training.run_config import RunConfig
from flax_densenet.training.signals import StopSignals
from flax_densenet.training.step import Metrics, TrainState
from flax_densenet.training.workdir import Record

_STEPS_BETWEEN_CHECKS = 20  # reading a loss makes the host wait for the device

StepMetrics = list[dict[str, float]]


class EpochResult(NamedTuple):
    """Where an epoch ended.

    Attributes:
      state: State after its last step.
      metrics: "loss" and "accuracy" of each of its steps so far.
      record: What metrics.jsonl says of it; None if a signal ended it early.
    """

    state: TrainState
    metrics: StepMetrics
    record: Record | None


class EpochTrainer:
    """Trains epochs and shows the progress of the whole run."""

    def __init__(
        self, run: RunConfig, dataset: Dataset, on_devices: ParallelSteps, steps: int
    ) -> None:
        """Prepares the training.

        Args:
          run: What to train and how.
          dataset: Images that suit `run.network`.
          on_devices: The steps.
          steps: Steps per epoch.
        """
        self._dataset = dataset
        self._optimization = run.optimization
        self._on_devices = on_devices
        self._steps = steps
        self._progress = tqdm(
            total=steps * run.optimization.epochs * run.optimization.batch_size,
            unit="images",
            unit_scale=True,
            disable=None,  # where the output is no terminal, the lines of the epochs do
        )

    def close(self) -> None:
        """Ends the progress bar."""
        self._progress.close()

    def run_epoch(
        self, state: TrainState, epoch: int, metrics: StepMetrics, stop: StopSignals
    ) -> EpochResult:
        """Trains an epoch, or what an interruption left of it, and evaluates.

        Args:
          state: State before the next step.
          epoch: Epoch from 0.
          metrics: Of the steps of this epoch that are done.
          stop: Ends the epoch between two steps.

        Raises:
          TrainingDiverged: A loss was not finite.
        """
        start = time.perf_counter()
        batch_size, first_step = self._optimization.batch_size, epoch * self._steps
        steps_done = len(metrics)
        self._progress.n = (first_step + steps_done) * batch_size
        self._progress.refresh()
        batches = train_batches(
            self._dataset.train,
            batch_size,
            seed=self._optimization.seed,
            epoch=epoch,
            first_step=steps_done,
        )
        metrics, pending = list(metrics), list[Metrics]()
        for step, batch in enumerate(batches, start=steps_done + 1):
            state, batch_metrics = self._on_devices.train_step(state, batch)
            pending.append(batch_metrics)
            self._progress.update(batch_size)
            stopped = stop.received is not None and step < self._steps
            if stopped or step % _STEPS_BETWEEN_CHECKS == 0 or step == self._steps:
                metrics += _read_finite(pending, first_step + len(metrics), epoch)
                pending = []
            if stopped:
                return EpochResult(state, metrics, None)
        train_seconds = time.perf_counter() - start
        test = evaluate(self._on_devices.eval_step, state, self._dataset.test, batch_size)
        if not math.isfinite(test["loss"]):
            raise _diverged("test loss", test["loss"], first_step + self._steps, epoch)
        record: Record = {
            "epoch": epoch + 1,
            "step": first_step + self._steps,
            "train_loss": float(np.mean([m["loss"] for m in metrics])),
            "train_error": 1 - float(np.mean([m["accuracy"] for m in metrics])),
            "test_loss": test["loss"],
            "test_error": test["error"],
            "images_per_second": (self._steps - steps_done) * batch_size / train_seconds,
            "seconds": time.perf_counter() - start,
        }
        self._progress.write(_describe(record, self._optimization.epochs))
        return EpochResult(state, metrics, record)


def _read_finite(pending: list[Metrics], steps_before: int, epochs_done: int) -> StepMetrics:
    metrics = [
        {name: float(value) for name, value in values.items()} for values in jax.device_get(pending)
    ]
    for step, values in enumerate(metrics, start=steps_before + 1):
        if not math.isfinite(values["loss"]):
            raise _diverged("training loss", values["loss"], step, epochs_done)
    return metrics


def _diverged(what: str, value: float, step: int, epochs_done: int) -> TrainingDiverged:
    kept = f"the checkpoint of epoch {epochs_done} is kept" if epochs_done else "no epoch is done"
    return TrainingDiverged(
        f"{what} is {value} at step {step}; training stopped and {kept}. "
        "Try a smaller --learning_rate"
    )


def _describe(record: Record, epochs: int) -> str:
    return (
        f"epoch {record['epoch']:>{len(str(epochs))}}/{epochs}  "
        f"train loss {record['train_loss']:.4f} error {record['train_error']:7.2%}  "
        f"test loss {record['test_loss']:.4f} error {record['test_error']:7.2%}  "
        f"{record['images_per_second']:.0f} images/s"
    )
