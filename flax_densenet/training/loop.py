"""A whole training run: epochs, checkpoints and records."""

import jax

from flax_densenet.data import Dataset
from flax_densenet.data.batches import steps_per_epoch
from flax_densenet.errors import InputError, TrainingInterrupted
from flax_densenet.initialization import check_x64
from flax_densenet.model import DenseNet
from flax_densenet.training.checkpoints import Checkpoints
from flax_densenet.training.curves import plot_curves
from flax_densenet.training.epoch import EpochTrainer, StepMetrics
from flax_densenet.training.optimizer import learning_rate_schedule, sgd
from flax_densenet.training.parallel import (
    ParallelMode,
    check_batch_size,
    mapped_axis,
    parallel_steps,
)
from flax_densenet.training.preprocess import Preprocess
from flax_densenet.training.run_config import RunConfig
from flax_densenet.training.signals import StopSignals
from flax_densenet.training.step import create_state
from flax_densenet.training.workdir import Record, WorkDir


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
      TrainingInterrupted: SIGINT or SIGTERM came; everything up to the last step is saved.
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
    metrics: StepMetrics = []  # of an epoch that is not done
    with StopSignals() as stop, Checkpoints(workdir.checkpoints) as checkpoints:
        if resume and (saved := checkpoints.latest_step()) is not None:
            state, metrics = checkpoints.restore(saved, like=state)
        first_step = int(state.step)
        records = [record for record in workdir.read_records() if record["step"] <= first_step]
        workdir.write_config(run)
        workdir.write_records(records)
        trainer = EpochTrainer(run, dataset, on_devices, steps)
        for epoch in range(first_step // steps, run.optimization.epochs):
            state, metrics, record = trainer.run_epoch(state, epoch, metrics, stop)
            if record is not None:
                record["learning_rate"] = float(schedule(steps * (epoch + 1) - 1))
                records.append(record)
                # First the record, which a resumed run drops if the checkpoint is not there; a
                # checkpoint without its record would leave a gap.
                workdir.write_records(records)
                metrics = []
            checkpoints.save(state, metrics)
            if stop.received is not None and int(state.step) < steps * run.optimization.epochs:
                trainer.close()
                raise TrainingInterrupted(stop.received, int(state.step))
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
