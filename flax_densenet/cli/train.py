"""The flags of `flax-densenet train`, whose defaults a run or weights may decide."""

import argparse
import dataclasses
import datetime
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import jax
import tyro

from flax_densenet.cli.devices import DeviceOptions, ProcessOptions, choose_devices
from flax_densenet.cli.report import print_result, print_start
from flax_densenet.cli.two_pass import (
    RunArguments,
    check_names,
    implied_run,
    named_variant,
    parse_run_arguments,
    read_first,
)
from flax_densenet.errors import InputError, SavingFailed, TrainingInterrupted
from flax_densenet.network.variants import VARIANTS
from flax_densenet.training.checkpoints import Checkpoints
from flax_densenet.training.config import Execution, FineTuningConfig, RunConfig
from flax_densenet.training.loop import fit
from flax_densenet.training.parallel import check_batch_size
from flax_densenet.training.parts import find_parts
from flax_densenet.training.recipes import PRESETS
from flax_densenet.training.records import check_tensorboard
from flax_densenet.training.run_data import check_dataset, load_run_data
from flax_densenet.training.workdir import WorkDir, open_workdir
from flax_densenet.weights.files.orbax_files import newest_checkpoint

if TYPE_CHECKING:
    from flax_densenet.training.fine_tuning import Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where the run is kept and what it starts from.

    Attributes:
      workdir: Directory for config.json, metrics.jsonl, curves.png and checkpoints/. If not given,
        a new one under runs/ with the time in its name.
      resume: Go on with the run in workdir; its configuration is the default of every flag.
      variant: Start from a named network of the paper; other flags change it further.
      preset: Start from a row of the paper's tables, such as densenet-bc-100-12-cifar10+; other
        flags change it further.
    """

    workdir: str | None = None
    resume: bool = False
    variant: str | None = None
    preset: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuningArguments(FineTuningConfig):
    """Where the weights start from, and which of them are trained how fast.

    A PART of the network is what stands between dots in the names that PyTorch gives its
    parameters: features, denseblock4, features.denseblock1.denselayer2, classifier, bias; the
    wildcards * ? [] are allowed, as in norm?.
    """

    # Files call it "weights", as they always did.
    weights: Annotated[str | None, tyro.conf.arg(name="weight_set")] = None
    init_from_sha256: tyro.conf.Suppress[str | None] = None  # found out, not given

    @property
    def config(self) -> FineTuningConfig:
        """The same without the command line."""
        return FineTuningConfig(**vars(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainArguments(RunArguments):
    """Train a DenseNet.

    Without any flag it is DenseNet (L=40, k=12) on the handwritten digits of scikit-learn.
    """

    fine_tuning: FineTuningArguments = FineTuningArguments()
    run: RunOptions = RunOptions()
    execution: Execution = Execution()
    devices: DeviceOptions = DeviceOptions()
    processes: ProcessOptions = ProcessOptions()

    @property
    def run_config(self) -> RunConfig:
        """The part that decides the outcome."""
        return dataclasses.replace(super().run_config, fine_tuning=self.fine_tuning.config)


def parse(args: Sequence[str], prog: str) -> TrainArguments:
    """Parses the command line of `train`.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: As `parse_run_arguments`, or flags exclude each other or contradict the weights.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    first = read_first(args)
    source, run = None, None
    if first.resume:
        run = _resumed_run(first)
    elif first.init_from:
        from flax_densenet.training.fine_tuning import open_source  # JAX, and perhaps PyTorch

        source = open_source(first.init_from, first.weight_set)
        run = _run_from(source, first)
    fine_tuning = run.fine_tuning if run else FineTuningConfig()
    arguments = parse_run_arguments(
        TrainArguments,
        args,
        prog,
        default=run,
        fine_tuning=FineTuningArguments(**vars(fine_tuning)),
    )
    arguments = _with_source(arguments, source)
    if not arguments.optimization.synchronized_batch_norm:
        if arguments.execution.parallel != "pmap":
            raise InputError(
                "--no_synchronized_batch_norm needs --parallel pmap; with jit the statistics are "
                "always those of the whole batch"
            )
    return arguments


def _resumed_run(first: argparse.Namespace) -> RunConfig:
    if first.workdir is None:
        raise InputError("--resume needs --workdir, the directory of the run to go on with")
    check_names(first)
    return WorkDir(Path(first.workdir).expanduser().absolute()).read_config()


def _run_from(source: "Source", first: argparse.Namespace) -> RunConfig:
    """Returns the defaults that weights decide."""
    from flax_densenet.weights.adapt import check_agreement

    config = source.checkpoint.config
    what_to_do = "leave the network's name and flags out, which the weights decide"
    if (variant := named_variant(first)) is not None:
        asked = dataclasses.replace(
            VARIANTS[variant],
            num_classes=config.num_classes,
            in_channels=config.in_channels,
            batch_norm_epsilon=config.batch_norm_epsilon,
        )
        check_agreement(config, asked, str(source.path), what_to_do)
    if first.depth is not None and config.blocks is not None:
        raise InputError(
            f"depth (={first.depth}) does not describe {source.path}, which is {config.title} with "
            f"blocks {config.blocks}; {what_to_do}"
        )
    return dataclasses.replace(
        implied_run(first, config),
        fine_tuning=FineTuningConfig(init_from=str(source.path), init_from_sha256=source.sha256),
    )


def _with_source(arguments: TrainArguments, source: "Source | None") -> TrainArguments:
    """Checks the flags against the weights, and fills in what only these tell."""
    how = arguments.fine_tuning
    if source is None:
        if how.init_from is not None:  # of a resumed run, where it is not read again
            path = newest_checkpoint(Path(how.init_from).expanduser().absolute())
            how = dataclasses.replace(how, init_from=str(path))
        return dataclasses.replace(arguments, fine_tuning=how)
    from flax_densenet.training.fine_tuning import check_source

    network, data = arguments.network, arguments.data
    check_source(source, network.config, new_head=how.new_head)
    statistics = source.checkpoint.statistics
    given = data.mean is not None or data.std is not None
    if statistics is not None and not given and len(statistics.mean) == network.in_channels:
        data = dataclasses.replace(data, mean=statistics.mean, std=statistics.std)
    how = dataclasses.replace(how, init_from=str(source.path), init_from_sha256=source.sha256)
    return dataclasses.replace(arguments, fine_tuning=how, data=data)


def run(arguments: TrainArguments, prog: str) -> None:
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
