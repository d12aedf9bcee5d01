"""A whole training run: epochs of steps, evaluation, checkpoints and records."""

import math
import time
from collections.abc import Callable

import jax
import numpy as np
from tqdm import tqdm

from flax_densenet.data import Dataset, Split
from flax_densenet.data.batches import EvalBatch, eval_batches, steps_per_epoch, train_batches
from flax_densenet.errors import InputError, TrainingDiverged
from flax_densenet.initialization import check_x64
from flax_densenet.model import DenseNet
from flax_densenet.training.checkpoints import Checkpoints
from flax_densenet.training.curves import plot_curves
from flax_densenet.training.optimizer import learning_rate_schedule, sgd
from flax_densenet.training.parallel import (
    ParallelMode,
    ParallelSteps,
    check_batch_size,
    mapped_axis,
    parallel_steps,
)
from flax_densenet.training.preprocess import Preprocess
from flax_densenet.training.run_config import RunConfig
from flax_densenet.training.step import Metrics, TrainState, create_state
from flax_densenet.training.workdir import Record, WorkDir

_STEPS_BETWEEN_CHECKS = 20  # reading a loss makes the host wait for the device


def fit(
    run: RunConfig,
    dataset: Dataset,
    workdir: WorkDir,
    *,
    resume: bool,
    parallel: ParallelMode = "auto",
) -> list[Record]:
    """Trains a network and writes everything to the work directory.

    Args:
      run: What to train and how.
      dataset: Images that suit `run.network`.
      workdir: Where to write; empty unless `resume`.
      resume: Go on from the newest checkpoint, if there is one.
      parallel: How the devices share a step; their number may change when resuming.

    Returns:
      One record per epoch, as in metrics.jsonl.

    Raises:
      InputError: Network and data set do not fit, or the batch is too large.
      TrainingDiverged: A loss was not finite. The checkpoint of the epoch before is kept.
    """
    check_dataset(run, dataset)
    check_batch_size(run.optimization.batch_size, jax.device_count())
    steps = steps_per_epoch(len(dataset.train), run.optimization.batch_size)
    schedule = learning_rate_schedule(
        run.optimization.learning_rate, steps * run.optimization.epochs
    )
    mean, std = dataset.channel_statistics()
    on_devices = parallel_steps(parallel)
    state = create_state(
        DenseNet(run.network, mapped_axis(parallel)),
        sgd(schedule, run.optimization.weight_decay),
        Preprocess(mean, std, run.data.augment),
        seed=run.optimization.seed,
    )
    state = on_devices.place(state)
    with Checkpoints(workdir.checkpoints) as checkpoints:
        first_epoch = 0
        if resume and (saved := checkpoints.latest_epoch()) is not None:
            state = checkpoints.restore(saved, like=state)
            first_epoch = saved
        records = [record for record in workdir.read_records() if record["epoch"] <= first_epoch]
        workdir.write_config(run)
        workdir.write_records(records)
        trainer = _Trainer(run, dataset, on_devices, steps, first_epoch)
        for epoch in range(first_epoch, run.optimization.epochs):
            state, record = trainer.run_epoch(state, epoch)
            record["learning_rate"] = float(schedule(steps * (epoch + 1) - 1))
            records.append(record)
            # First the record, which a resumed run drops if the checkpoint is not there; a
            # checkpoint without its record would leave a gap.
            workdir.write_records(records)
            checkpoints.save(epoch + 1, state)
        trainer.close()
    plot_curves(records, f"{run.network.title} on {dataset.name}", workdir.curves_file)
    return records


def check_dataset(run: RunConfig, dataset: Dataset) -> None:
    """Checks that the network can be trained on the images.

    Raises:
      InputError: Classes, channels or image size differ.
    """
    check_x64(run.network)
    if run.network.num_classes != dataset.num_classes:
        raise InputError(
            f"num_classes (={run.network.num_classes}) must be {dataset.num_classes}, the number "
            f"of classes of {dataset.name}; leave the flag out"
        )
    height, width, channels = dataset.image_shape
    run.network.check_image(height=height, width=width, channels=channels)


def evaluate(
    step: Callable[[TrainState, EvalBatch], Metrics],
    state: TrainState,
    split: Split,
    batch_size: int,
) -> dict[str, float]:
    """Returns mean "loss" and "error" (a share) over a split, each example counted once.

    Args:
      step: `eval_step`, compiled.
      state: State to evaluate.
      split: Images.
      batch_size: Images per step; it does not change the result.
    """
    sums = [step(state, batch) for batch in eval_batches(split, batch_size)]
    totals = jax.tree.map(lambda *values: float(np.sum(values)), *jax.device_get(sums))
    return {
        "loss": totals["loss"] / totals["count"],
        "error": 1 - totals["correct"] / totals["count"],
    }


class _Trainer:
    """The steps and the progress bar, which live as long as the run."""

    def __init__(
        self,
        run: RunConfig,
        dataset: Dataset,
        on_devices: ParallelSteps,
        steps: int,
        first_epoch: int,
    ) -> None:
        self._dataset = dataset
        self._optimization = run.optimization
        self._steps = steps
        self._on_devices = on_devices
        images_per_epoch = steps * run.optimization.batch_size
        self._progress = tqdm(
            total=images_per_epoch * run.optimization.epochs,
            initial=images_per_epoch * first_epoch,
            unit="images",
            unit_scale=True,
            disable=None,  # where the output is no terminal, the lines of the epochs do
        )

    def close(self) -> None:
        self._progress.close()

    def run_epoch(self, state: TrainState, epoch: int) -> tuple[TrainState, Record]:
        start = time.perf_counter()
        batch_size = self._optimization.batch_size
        metrics = []
        batches = train_batches(
            self._dataset.train, batch_size, seed=self._optimization.seed, epoch=epoch
        )
        first_step = epoch * self._steps
        pending: list[Metrics] = []
        for step, batch in enumerate(batches, start=1):
            state, batch_metrics = self._on_devices.train_step(state, batch)
            pending.append(batch_metrics)
            if step % _STEPS_BETWEEN_CHECKS == 0 or step == self._steps:
                metrics += _read_finite(pending, first_step + step - len(pending), epoch)
                pending = []
            self._progress.update(batch_size)
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
            "images_per_second": self._steps * batch_size / train_seconds,
            "seconds": time.perf_counter() - start,
        }
        self._progress.write(_describe(record, self._optimization.epochs))
        return state, record


def _read_finite(
    pending: list[Metrics], steps_before: int, epochs_done: int
) -> list[dict[str, float]]:
    metrics = jax.device_get(pending)
    for step, values in enumerate(metrics, start=steps_before + 1):
        if not math.isfinite(values["loss"]):
            raise _diverged("training loss", values["loss"], step, epochs_done)
    return metrics


def _diverged(what: str, value: float, step: int, epochs_done: int) -> TrainingDiverged:
    kept = (
        f"the checkpoint of epoch {epochs_done} is kept"
        if epochs_done
        else "no checkpoint exists yet"
    )
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
