"""`flax-densenet train`: from the command line to a trained network in a work directory."""

import datetime
import shlex
import time
from pathlib import Path

import jax

from flax_densenet.commands.devices import choose_devices
from flax_densenet.commands.report import print_result, print_start
from flax_densenet.commands.train_arguments import TrainArguments
from flax_densenet.errors import InputError, SavingFailed, TrainingInterrupted
from flax_densenet.training.checkpoints import Checkpoints
from flax_densenet.training.loop import check_dataset, fit
from flax_densenet.training.parallel import check_batch_size
from flax_densenet.training.parameter_parts import find_parts
from flax_densenet.training.presets import PRESETS
from flax_densenet.training.run_config import RunConfig
from flax_densenet.training.run_data import load_run_data
from flax_densenet.training.tensorboard import check_tensorboard
from flax_densenet.training.workdir import WorkDir, open_workdir


def train(arguments: TrainArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, for messages.

    Raises:
      InputError: A flag, the work directory or the data set cannot be used.
      SavingFailed: Something could not be written.
      TrainingDiverged: A loss was not finite.
      TrainingInterrupted: A signal came; the message that tells how to go on is printed.
    """
    start = time.perf_counter()
    run = arguments.run_config
    find_parts(run.network, run.fine_tuning)  # refuses what is not in the network
    if arguments.execution.tensorboard:
        check_tensorboard()
    choose_devices(arguments.devices, arguments.processes)
    is_first_process = jax.process_index() == 0
    workdir = open_workdir(
        _workdir_path(arguments), resume=arguments.run.resume, is_first_process=is_first_process
    )
    if arguments.run.resume:
        changed_epochs = _check_resume(workdir, run)
        if _is_finished(workdir, run.optimization.epochs):
            records = workdir.read_records()
            print(f"nothing to do: all {len(records)} epochs are done")
            print_result(records, workdir, num_test_images=None, seconds=0)
            return
        if changed_epochs is not None and is_first_process:
            print(
                "note: epochs changes from {} to {}, which moves the learning-rate drops; the "
                "result is not that of an uninterrupted run".format(*changed_epochs)
            )
    dataset = load_run_data(run, num_workers=arguments.execution.num_workers)
    check_dataset(run, dataset)
    check_batch_size(run.optimization.batch_size, jax.device_count())
    if is_first_process:
        preset = PRESETS[arguments.run.preset] if arguments.run.preset else None
        print_start(run, dataset, workdir, preset)
    try:
        records = fit(
            run,
            dataset,
            workdir,
            resume=arguments.run.resume,
            execution=arguments.execution,
        )
    except (KeyboardInterrupt, TrainingInterrupted) as error:
        print(f"\n{str(error) or 'interrupted'}; go on with: {_resume_command(prog, workdir)}")
        raise
    except SavingFailed as error:
        # Saving takes all processes, so that one that has ended can look like a full disk.
        others = ", or see whether another process has ended" if jax.process_count() > 1 else ""
        raise SavingFailed(
            f"{error}; the finished checkpoints are kept; make room{others}, then go on with: "
            f"{_resume_command(prog, workdir)}"
        ) from error
    if is_first_process:
        print_result(
            records,
            workdir,
            num_test_images=len(dataset.test),
            seconds=time.perf_counter() - start,
        )


def _resume_command(prog: str, workdir: WorkDir) -> str:
    return f"{prog} --resume --workdir {shlex.quote(str(workdir.path))}"


def _workdir_path(arguments: TrainArguments) -> Path:
    if arguments.run.workdir is not None:
        return Path(arguments.run.workdir)
    if jax.process_count() > 1:
        raise InputError("several processes need the same --workdir, on a disk that all can reach")
    run, now = arguments.run_config, datetime.datetime.now()
    data = run.data.dataset.replace(":", "-").replace("/", "-")
    seed = run.optimization.seed
    return Path("runs") / f"{run.network.slug}-{data}-seed{seed}-{now:%Y-%m-%d-%H%M%S}"


def _is_finished(workdir: WorkDir, epochs: int) -> bool:
    """Tells whether every epoch has its record and its checkpoint, and the curves are drawn."""
    records = workdir.read_records()
    if len(records) < epochs or not workdir.curves_file.exists():
        return False
    with Checkpoints(workdir.checkpoints, read_only=True) as checkpoints:
        return (checkpoints.latest_step() or 0) >= records[epochs - 1]["step"]


def _check_resume(workdir: WorkDir, run: RunConfig) -> tuple[int, int] | None:
    """Refuses a resumed run that is another run; returns the old and new epochs if they differ."""
    differences = workdir.read_config().differences(run)
    changed_epochs = differences.pop("epochs", None)
    differences.pop("data_dir", None)  # the same data may lie elsewhere
    if differences:
        listed = "; ".join(f"{name} was {a!r}, now {b!r}" for name, (a, b) in differences.items())
        raise InputError(
            f"cannot resume {workdir.path} with another configuration: {listed}; leave these flags "
            "out, or start a new run in another work directory"
        )
    return changed_epochs
