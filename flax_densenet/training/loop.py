"""A whole training run: epochs, checkpoints and records."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable

import jax

from flax_densenet.data import Dataset
from flax_densenet.data.batches import Share, steps_per_epoch
from flax_densenet.errors import TrainingInterrupted
from flax_densenet.pictures import draw_picture
from flax_densenet.training.augment import Preprocess
from flax_densenet.training.checkpoints import CheckpointStore
from flax_densenet.training.config import Execution, RunConfig
from flax_densenet.training.epoch import EpochTrainer, StepMetrics
from flax_densenet.training.fine_tuning import start_variables
from flax_densenet.training.parallel import check_batch_size, ending_with_the_others, parallel_steps
from flax_densenet.training.parts import parameter_counts
from flax_densenet.training.records import Progress, StepProfile, TensorBoard, plot_curves
from flax_densenet.training.run_data import channel_statistics, check_dataset
from flax_densenet.training.signals import StopSignals
from flax_densenet.training.state import initial_state, run_schedule
from flax_densenet.training.step import TrainState
from flax_densenet.training.workdir import Record, WorkDir, usage_record


def fit(
    run: RunConfig,
    dataset: Dataset,
    workdir: WorkDir,
    *,
    resume: bool,
    execution: Execution = Execution(),
    adapt: Callable[[TrainState], TrainState] | None = None,
    measure: Callable[[TrainState], Record] | None = None,
    progress: Progress | None = None,
) -> list[Record]:
    """Trains a network and writes everything to the work directory.

    With several processes each calls it; the first one writes.

    Args:
      run: What to train and how.
      dataset: Images that suit `run.network`.
      workdir: Where to write; empty unless `resume`.
      resume: Go on from the newest checkpoint, if there is one.
      execution: How to execute it; it may change when resuming, as may the number of devices.
      adapt: Changes the state before the first step, such as its network.
      measure: Returns what each epoch's record says besides, from the state after the epoch.
      progress: Where progress is shown, if not on a bar of its own.

    Returns:
      One record per epoch, as in metrics.jsonl.

    Raises:
      InputError: Network and data set do not fit, or the batch is too large.
      SavingFailed: The disk is full, or something like it. What was saved before is kept.
      TrainingDiverged: A loss was not finite. The checkpoint of the epoch before is kept.
      TrainingInterrupted: A signal to stop came; everything up to the last step is saved.
    """
    check_dataset(run, dataset)
    check_batch_size(run.optimization.batch_size, jax.device_count())
    optimization = run.optimization
    steps = steps_per_epoch(len(dataset.train), optimization.batch_size)
    total_steps = steps * optimization.epochs
    schedule = run_schedule(optimization, steps)
    mean, std = channel_statistics(run, dataset)
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, mean=mean, std=std))
    on_devices = parallel_steps(execution.parallel, remat=execution.remat)
    preprocess = Preprocess(mean, std, run.data.augment)
    # A run that was ended before its first checkpoint starts again.
    variables = (
        None if resume and _has_checkpoint(workdir) else start_variables(run, dataset.class_names)
    )
    state = initial_state(run, execution, preprocess, schedule, variables)
    state = on_devices.place(adapt(state) if adapt else state)
    counts = parameter_counts(run.network, run.fine_tuning)
    is_first_process = jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignals())
        checkpoints = stack.enter_context(CheckpointStore(workdir.checkpoints))
        metrics: StepMetrics = []  # of an epoch that is not done
        if resume:
            saved, metrics = _restore(checkpoints, like=on_devices.to_global(state))
            state = on_devices.place(saved)
        first_step = int(state.step)
        records = [record for record in workdir.read_records() if record["step"] <= first_step]
        if is_first_process:
            workdir.write_config(run, usage_record(run, dataset))
            workdir.write_records(records)
        board = None
        if execution.tensorboard and is_first_process:
            board = stack.enter_context(TensorBoard(workdir.tensorboard, first_step))
        profile = None
        if execution.profile_steps and is_first_process:
            profile = stack.enter_context(StepProfile(workdir.profile, execution.profile_steps))
        if progress is None:
            progress = Progress(total_steps * optimization.batch_size, shown=is_first_process)
            stack.callback(progress.close)
        trainer = EpochTrainer(
            optimization,
            dataset,
            on_devices,
            steps,
            progress,
            share=Share(jax.process_index(), jax.process_count()),
            profile=profile,
        )
        stack.enter_context(ending_with_the_others())
        for epoch in range(first_step // steps, optimization.epochs):
            state, metrics, record = trainer.run_epoch(state, epoch, metrics, stop)
            if record is not None:
                record["learning_rate"] = float(schedule(steps * (epoch + 1) - 1))
                record |= counts
                if measure is not None:
                    record |= measure(state)
                records.append(record)
                # First the record, which a resumed run drops if the checkpoint is not there; a
                # checkpoint without its record would leave a gap.
                if is_first_process:
                    workdir.write_records(records)
                if board is not None:
                    board.write(record)
                metrics = []
            checkpoints.save(
                on_devices.to_global(state),
                metrics,
                error=selection_error(record) if record else None,
            )
            if int(state.step) < total_steps and (record is None or stop.agreed()):
                checkpoints.wait()
                raise TrainingInterrupted(stop.received, int(state.step))
    if is_first_process:
        title = f"{run.network.title} on {dataset.name}"
        draw_picture(workdir.curves_file, functools.partial(plot_curves, records, title))
    return records


def selection_error(record: Record) -> float:
    """Returns the error by which the best epoch is chosen: on the validation images, if any."""
    name = "validation_error" if "validation_error" in record else "test_error"
    return float(record[name])


def _has_checkpoint(workdir: WorkDir) -> bool:
    with CheckpointStore(workdir.checkpoints, read_only=True) as checkpoints:
        return checkpoints.latest_step() is not None


def _restore(checkpoints: CheckpointStore, like: TrainState) -> tuple[TrainState, StepMetrics]:
    if checkpoints.leftovers and jax.process_index() == 0:
        print(
            f"note: ignored {', '.join(checkpoints.leftovers)}, which an interrupted save left in "
            "checkpoints/"
        )
    newest = checkpoints.latest_step()
    if jax.process_index() == 0:
        for reason in checkpoints.damaged.values():
            print(
                f"warning: {reason}; its name ends in .damaged now, and the run goes on from step "
                f"{newest}"
            )
    return (like, []) if newest is None else checkpoints.restore(newest, like)
