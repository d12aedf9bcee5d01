"""One epoch: its steps, the evaluation after them, and its record."""

import math
from typing import NamedTuple

import jax
import numpy as np

from flax_densenet.data import Dataset
from flax_densenet.data.batches import WHOLE, Share, train_batches
from flax_densenet.errors import TrainingDiverged
from flax_densenet.training.config import OptimizationConfig
from flax_densenet.training.evaluation import evaluate
from flax_densenet.training.parallel import ParallelSteps
from flax_densenet.training.records import Progress, StepProfile, Stopwatch
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
    """Trains epochs and shows their progress."""

    def __init__(
        self,
        optimization: OptimizationConfig,
        dataset: Dataset,
        on_devices: ParallelSteps,
        steps: int,
        progress: Progress,
        *,
        share: Share = WHOLE,
        profile: StepProfile | None = None,
    ) -> None:
        """Prepares the training.

        Args:
          optimization: How to train.
          dataset: Images that suit the network.
          on_devices: The steps.
          steps: Steps per epoch.
          progress: Shows it.
          share: The part of each batch that this process reads.
          profile: Profiles some steps.
        """
        self._dataset = dataset
        self._optimization = optimization
        self._on_devices = on_devices
        self._steps = steps
        self._share = share
        self._profile = profile
        self._progress = progress

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
        batch_size, first_step = self._optimization.batch_size, epoch * self._steps
        steps_before = len(metrics)
        with Stopwatch() as watch:
            state, metrics = self._train(state, epoch, metrics, stop, watch)
            seconds = dict(watch.seconds)
            if len(metrics) < self._steps:
                return EpochResult(state, metrics, None)
            record: Record = {
                "epoch": epoch + 1,
                "step": first_step + self._steps,
                "train_loss": float(np.mean([m["loss"] for m in metrics])),
                "train_error": 1 - float(np.mean([m["accuracy"] for m in metrics])),
            }
            with watch.part("evaluation"):
                record |= self._evaluate(state, epoch)
        # Compilation happens once; the speed is that of the steps after it.
        working = seconds["data"] + seconds["step"] - seconds.get("compile", 0)
        record["images_per_second"] = (self._steps - steps_before) * batch_size / working
        for part in ("data", "step", "evaluation", "compile"):
            record[f"seconds_{part}"] = watch.seconds[part]
        if broken := self._dataset.unreadable:
            self._progress.write(describe_unreadable(broken))
        self._progress.write_epoch(describe_epoch(record, self._optimization.epochs))
        return EpochResult(state, metrics, record)

    def _train(
        self,
        state: TrainState,
        epoch: int,
        metrics: StepMetrics,
        stop: StopSignals,
        watch: Stopwatch,
    ) -> tuple[TrainState, StepMetrics]:
        batch_size, first_step = self._optimization.batch_size, epoch * self._steps
        steps_done = len(metrics)
        self._progress.set((first_step + steps_done) * batch_size)
        batches = train_batches(
            self._dataset.train,
            batch_size,
            seed=self._optimization.seed,
            epoch=epoch,
            first_step=steps_done,
            share=self._share,
        )
        metrics, pending = list(metrics), list[Metrics]()
        for step, batch in enumerate(watch.waiting_for("data", batches), start=steps_done + 1):
            with watch.part("step"):
                if self._profile is not None:
                    self._profile.before_step(state)
                state, batch_metrics = self._on_devices.train_step(state, batch)
                pending.append(batch_metrics)
                self._progress.advance(batch_size)
                stopped = step < self._steps and stop.agreed(first_step + step)
                if stopped or step % _STEPS_BETWEEN_CHECKS == 0 or step == self._steps:
                    metrics += _read_finite(pending, first_step + len(metrics), epoch)
                    pending = []
            if stopped:
                break
        return state, metrics

    def _evaluate(self, state: TrainState, epoch: int) -> Record:
        record: Record = {}
        for name, split in (("validation", self._dataset.validation), ("test", self._dataset.test)):
            if split is None:
                continue
            result = evaluate(
                self._on_devices.eval_step,
                state,
                split,
                self._optimization.batch_size,
                share=self._share,
            )
            if not math.isfinite(result["loss"]):
                raise _diverged(f"{name} loss", result["loss"], (epoch + 1) * self._steps, epoch)
            record |= {f"{name}_{quantity}": value for quantity, value in result.items()}
        return record


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


def describe_epoch(record: Record, epochs: int) -> str:
    """Returns a line on an epoch.

    Args:
      record: What metrics.jsonl says of it.
      epochs: Epochs of the whole run.
    """
    validation = ""
    if "validation_error" in record:
        validation = f"validation error {record['validation_error']:7.2%}  "
    return (
        f"epoch {record['epoch']:>{len(str(epochs))}}/{epochs}  "
        f"train loss {record['train_loss']:.4f} error {record['train_error']:7.2%}  "
        f"{validation}"
        f"test loss {record['test_loss']:.4f} error {record['test_error']:7.2%}  "
        f"{record['images_per_second']:.0f} images/s"
    )


def describe_unreadable(files: list[str]) -> str:
    """Returns a line on images that were skipped.

    Args:
      files: Their names, at least one.
    """
    return f"skipped {len(files)} broken image(s) so far, such as {files[0]}"
