"""The flags of `flax-densenet train`, whose defaults a run or weights may decide."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from flax_densenet.commands.arguments import (
    RunArguments,
    check_names,
    implied_run,
    named_variant,
    parse_run_arguments,
    read_first,
)
from flax_densenet.commands.device_options import DeviceOptions, ProcessOptions
from flax_densenet.errors import InputError
from flax_densenet.training.execution import Execution
from flax_densenet.training.fine_tuning_config import FineTuningConfig
from flax_densenet.training.run_config import RunConfig
from flax_densenet.training.workdir import WorkDir
from flax_densenet.variants import VARIANTS
from flax_densenet.weight_files.orbax_files import newest_checkpoint

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


def parse_train_arguments(args: Sequence[str], prog: str) -> TrainArguments:
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

        source = open_source(first.init_from, first.weights)
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
    from flax_densenet.conversion.agreement import check_agreement

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
