"""`flax-densenet train`: trains a network, or goes on with a training."""

import dataclasses
import datetime
import errno
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from flax_densenet.cli.devices import DeviceFlags, ProcessFlags, choose_devices
from flax_densenet.cli.flags import parse_flags
from flax_densenet.cli.report import print_result, print_start
from flax_densenet.cli.two_pass import given, implied_run, named_variant
from flax_densenet.errors import InputError, SavingFailed, TrainingInterrupted, require
from flax_densenet.lock import Lock
from flax_densenet.training.config import Execution, FineTuningConfig, RunConfig
from flax_densenet.training.recipes import PRESETS
from flax_densenet.training.run_data import check_dataset, load_run_data
from flax_densenet.training.workdir import WorkDir, held_workdir

if TYPE_CHECKING:
    from flax_densenet.training.fine_tuning import Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFlags:
    """Where the run is kept and what it starts from.

    Attributes:
      workdir: Directory for config.json, metrics.jsonl, curves.png and checkpoints/. If not given,
        a new one under runs/ with the time in its name.
      resume: Go on with the run in workdir; its configuration is the default of every flag.
      variant: Start from a named network of the paper; other flags change it further.
      preset: Start from a row of the paper's tables, such as densenet-bc-100-12-cifar10+; other
        flags change it further.
      offline: Download no weights for init_from: use what is on the disk, also in the caches of
        other software.
    """

    workdir: str | None = None
    resume: bool = False
    variant: str | None = None
    preset: str | None = None
    offline: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """Train a DenseNet.

    Without any flag it is DenseNet (L=40, k=12) on the handwritten digits of scikit-learn.

    Attributes:
      config: Everything that decides the outcome.
      run: Where the run is kept, and what it starts from.
      execution: How it is executed.
      devices: Which devices take part.
      processes: Which processes take part.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    run: RunFlags = RunFlags()
    execution: Execution = Execution()
    devices: DeviceFlags = DeviceFlags()
    processes: ProcessFlags = ProcessFlags()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FineTuningFlags(FineTuningConfig):
    """Where the weights start from, and which of them are trained how fast.

    Attributes:
      freeze: Parts that are not trained: PART,PART,... or none. A part is named by the words
        between dots in PyTorch's names of parameters, such as features, denseblock4,
        features.denseblock1.denselayer2, classifier or bias; the wildcards * ? [] are allowed, as
        in norm?. See docs/fine-tuning.md.
    """

    # Its name in config.json is "weights".
    weights: Annotated[str | None, tyro.conf.arg(name="weight_set")] = None
    init_from_sha256: tyro.conf.Suppress[str | None] = None  # computed, not given


def parse(args: Sequence[str], prog: str) -> TrainArguments:
    """Parses the command line.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: A default cannot be determined, such as that of an unknown data set, or flags
        exclude each other or contradict the weights.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    source, init_from = None, given(args, "init_from")
    if "--resume" in args:
        config = _resumed_run(args)
    elif init_from:
        from flax_densenet.training.fine_tuning import open_source  # JAX, and perhaps PyTorch

        source = open_source(init_from, given(args, "weight_set"), offline="--offline" in args)
        config = _run_from(source, args)
    else:
        config = implied_run(args)
    arguments = parse_flags(
        TrainArguments,
        args,
        prog,
        default=TrainArguments(config=config),
        spelled={FineTuningConfig: _FineTuningFlags},
        pairs=True,
    )
    arguments = dataclasses.replace(arguments, config=_with_source(arguments.config, source))
    if not arguments.config.optimization.synchronized_batch_norm:
        if arguments.execution.parallel != "pmap":
            raise InputError(
                "--no_synchronized_batch_norm needs --parallel pmap; with jit the statistics are "
                "always those of the whole batch"
            )
    return arguments


def _resumed_run(args: Sequence[str]) -> RunConfig:
    if (workdir := given(args, "workdir")) is None:
        raise InputError("--resume needs --workdir, the directory of the run to go on with")
    named_variant(args)  # refuses names that do not exist
    return WorkDir(Path(workdir).expanduser().absolute()).read_config()


def _run_from(source: "Source", args: Sequence[str]) -> RunConfig:
    """Returns the defaults that weights decide."""
    from flax_densenet.weights.adapt import check_variant

    network = source.checkpoint.config
    what_to_do = "leave the network's name and flags out, which the weights decide"
    if (variant := named_variant(args)) is not None:
        check_variant(network, variant, str(source.path), what_to_do)
    if (depth := given(args, "depth")) is not None and network.blocks is not None:
        raise InputError(
            f"depth (={depth}) does not describe {source.path}, which is {network.title} with "
            f"blocks {network.blocks}; {what_to_do}"
        )
    return dataclasses.replace(
        implied_run(args, network),
        fine_tuning=FineTuningConfig(init_from=str(source.path), init_from_sha256=source.sha256),
    )


def _with_source(config: RunConfig, source: "Source | None") -> RunConfig:
    """Returns the run that starts from the weights, and checks that it can.

    Images are normalized as the weights are used to, unless flags say otherwise.
    """
    how, network, data = config.fine_tuning, config.network, config.data
    if source is None:
        if how.init_from is not None:  # of a resumed run, where it is not read again
            from flax_densenet.weights.files.orbax_files import newest_checkpoint

            path = newest_checkpoint(Path(how.init_from).expanduser().absolute())
            how = dataclasses.replace(how, init_from=str(path))
        return dataclasses.replace(config, fine_tuning=how)
    from flax_densenet.training.fine_tuning import check_source

    check_source(source, network, new_head=how.new_head)
    statistics = source.checkpoint.statistics
    is_given = data.mean is not None or data.std is not None
    if statistics is not None and not is_given and len(statistics.mean) == network.in_channels:
        data = dataclasses.replace(data, mean=statistics.mean, std=statistics.std)
    how = dataclasses.replace(how, init_from=str(source.path), init_from_sha256=source.sha256)
    return dataclasses.replace(config, fine_tuning=how, data=data)


def run(arguments: TrainArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, for messages.

    Raises:
      InputError: A flag, the work directory or the data set cannot be used.
      SavingFailed: Something could not be written.
      TrainingDiverged: A loss was not finite.
      TrainingInterrupted: A signal came; a message that says how to go on is printed.
    """
    import jax

    from flax_densenet.training.parts import find_parts
    from flax_densenet.training.records import check_tensorboard

    start = time.perf_counter()
    run = arguments.config
    find_parts(run.network, run.fine_tuning)  # refuses what is not in the network
    if arguments.execution.tensorboard:
        check_tensorboard()
    choose_devices(arguments.devices, arguments.processes)
    is_first_process = jax.process_index() == 0
    with held_workdir(
        _workdir_path(arguments),
        resume=arguments.run.resume,
        is_first_process=is_first_process,
        numbered=arguments.run.workdir is None,
    ) as (workdir, lock):
        _run_in(workdir, lock, arguments, prog, start)


def _run_in(
    workdir: WorkDir, lock: Lock | None, arguments: TrainArguments, prog: str, start: float
) -> None:
    import jax

    from flax_densenet.training.loop import fit
    from flax_densenet.training.parallel import check_batch_size

    run = arguments.config
    is_first_process = jax.process_index() == 0
    if arguments.run.resume:
        changed_epochs = _check_resume(workdir, run)
        if _is_finished(workdir, run.optimization.epochs):
            records = workdir.read_records()
            print(f"nothing to do: all {len(records)} epochs are done")
            print_result(records, workdir, num_test_images=None, seconds=0)
            return
        if changed_epochs is not None and is_first_process:
            print(_note_on_epochs(*changed_epochs, run))
    dataset = load_run_data(run, num_workers=arguments.execution.num_workers)
    check_dataset(run, dataset)
    if arguments.run.resume:
        workdir.check_same_images(dataset)
    check_batch_size(run.optimization.batch_size, jax.device_count())
    if is_first_process:
        preset = PRESETS[arguments.run.preset] if arguments.run.preset else None
        print_start(run, dataset, workdir, preset, arguments.execution)
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
    except (InputError, SavingFailed) as error:
        if isinstance(error, InputError) and workdir.path.is_dir():
            raise
        raise SavingFailed(
            f"{error}; the finished checkpoints are kept; {_remedy(error, workdir, lock)}, then go "
            f"on with: {_resume_command(prog, workdir)}"
        ) from error
    if is_first_process:
        print_result(
            records,
            workdir,
            num_test_images=len(dataset.test),
            seconds=time.perf_counter() - start,
        )


def _remedy(error: Exception, workdir: WorkDir, lock: Lock | None) -> str:
    """Returns what to do about something that could not be written."""
    import jax

    if not workdir.path.is_dir():
        return (
            f"{workdir.path} has vanished: see whether it was renamed or removed, or its disk has "
            "gone, bring it back"
        )
    if lock is not None and lock.is_lost():
        return (
            f"the lock of this run is lost, {lock.file}, so that another one may write there, too: "
            "see that none does"
        )
    if any(os.strerror(number) in str(error) for number in _NO_RIGHTS):
        return f"give this user the right to write in {workdir.path}"
    # Saving takes all processes, so that one that has ended can look like a full disk.
    others = ", or see whether another process has ended" if jax.process_count() > 1 else ""
    return f"make room{others}"


def _resume_command(prog: str, workdir: WorkDir) -> str:
    return f"{prog} --resume --workdir {shlex.quote(str(workdir.path))}"


_NO_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)


def _workdir_path(arguments: TrainArguments) -> Path:
    import jax

    if (workdir := arguments.run.workdir) is not None:
        require(_is_utf8(workdir), "workdir", workdir, "a name in UTF-8, as Orbax writes no other")
        return Path(workdir)
    if jax.process_count() > 1:
        raise InputError("several processes need the same --workdir, on a disk that all can reach")
    run, now = arguments.config, datetime.datetime.now()
    kind, _, rest = run.data.dataset.partition(":")
    data = f"{kind}-{Path(rest).name}" if rest else kind
    seed = run.optimization.seed
    return Path("runs") / f"{run.network.slug}-{data}-seed{seed}-{now:%Y-%m-%d-%H%M%S}"


def _is_utf8(name: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in name)


def _is_finished(workdir: WorkDir, epochs: int) -> bool:
    """Tells whether every epoch has its record and its checkpoint, and the curves are drawn."""
    from flax_densenet.training.checkpoints import CheckpointStore

    records = workdir.read_records()
    if len(records) < epochs or not workdir.curves_file.exists():
        return False
    with CheckpointStore(workdir.checkpoints, read_only=True) as checkpoints:
        return (checkpoints.latest_step() or 0) >= records[epochs - 1]["step"]


def _note_on_epochs(old: int, new: int, run: RunConfig) -> str:
    note = f"note: epochs changes from {old} to {new}"
    if run.optimization.schedule == "steps" and not run.optimization.drops:
        return f"{note}; at its constant learning rate that is as if it had been given at the start"
    return (
        f"{note}, which moves the learning-rate drops; the result is not that of an uninterrupted "
        "run"
    )


def _check_resume(workdir: WorkDir, run: RunConfig) -> tuple[int, int] | None:
    """Refuses another configuration than the run's; returns old and new epochs if they differ."""
    differences = workdir.read_config().differences(run)
    changed_epochs = differences.pop("epochs", None)
    differences.pop("data_dir", None)  # the same data may be elsewhere
    was, now = differences.get("dataset", ("", ""))
    if was.startswith("folder:") and now.startswith("folder:"):
        from flax_densenet.weights.statement import read_run

        if read_run(workdir.path).class_names is not None:  # which are compared with the images
            del differences["dataset"]
    if differences:
        listed = "; ".join(f"{name} was {a!r}, now {b!r}" for name, (a, b) in differences.items())
        raise InputError(
            f"cannot resume {workdir.path} with another configuration: {listed}; leave these flags "
            f"out, or start a new run from its weights with --init_from "
            f"{shlex.quote(str(workdir.path))} instead of --resume and --workdir: its momentum "
            "starts from zero, its schedule from the first epoch, and the flags of data and "
            "training are given again"
        )
    return changed_epochs
