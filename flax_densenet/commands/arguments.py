"""The flags of commands that train: one per field of the run's configuration, and `train`'s own."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import tyro

from flax_densenet.commands.comma_separated import comma_separated_registry
from flax_densenet.commands.device_options import DeviceOptions, ProcessOptions
from flax_densenet.commands.network import NetworkArguments, check_name, network_arguments
from flax_densenet.errors import InputError
from flax_densenet.training.execution import Execution
from flax_densenet.training.optimization_config import OptimizationConfig
from flax_densenet.training.presets import PRESETS
from flax_densenet.training.recipes import default_run
from flax_densenet.training.run_config import DataConfig, RunConfig
from flax_densenet.training.workdir import WorkDir
from flax_densenet.variants import VARIANTS


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
class RunArguments:
    """What is trained and how."""

    network: NetworkArguments
    data: DataConfig
    optimization: OptimizationConfig

    @property
    def run_config(self) -> RunConfig:
        """The part that decides the outcome."""
        return RunConfig(
            network=self.network.config, data=self.data, optimization=self.optimization
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainArguments(RunArguments):
    """Train a DenseNet.

    Without any flag it is DenseNet (L=40, k=12) on the handwritten digits of scikit-learn.
    """

    run: RunOptions = RunOptions()
    execution: Execution = Execution()
    devices: DeviceOptions = DeviceOptions()
    processes: ProcessOptions = ProcessOptions()


Arguments = TypeVar("Arguments", bound=RunArguments)


def parse_train_arguments(args: Sequence[str], prog: str) -> TrainArguments:
    """Parses the command line of `train`.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: As `parse_run_arguments`, or flags exclude each other.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    first = _read_first(args)
    resumed = _resumed_run(first) if first.resume else None
    arguments = parse_run_arguments(TrainArguments, args, prog, default=resumed)
    if not arguments.optimization.synchronized_batch_norm:
        if arguments.execution.parallel != "pmap":
            raise InputError(
                "--no_synchronized_batch_norm needs --parallel pmap; with jit the statistics are "
                "always those of the whole batch"
            )
    return arguments


def parse_run_arguments(
    arguments_class: type[Arguments],
    args: Sequence[str],
    prog: str,
    *,
    default: RunConfig | None = None,
) -> Arguments:
    """Parses the command line of a command that trains.

    Some flags decide the defaults of the others: the data set its recipe, classes and channels;
    a variant or preset the network. They are read first.

    Args:
      arguments_class: The command's flags.
      args: Words after the command.
      prog: Name of the command, for messages.
      default: Defaults of all flags, instead of those that the flags decide.

    Raises:
      InputError: A default cannot be determined, such as that of an unknown data set.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    run = default or _default_run(_read_first(args))
    return tyro.cli(
        arguments_class,
        args=args,
        default=arguments_class(
            network=network_arguments(run.network),
            data=run.data,
            optimization=run.optimization,
        ),
        prog=prog,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes,),
        registry=comma_separated_registry(),
    )


def _read_first(args: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("dataset", "data_dir", "augment", "variant", "preset", "blocks"):
        parser.add_argument(f"--{name}", f"--{name.replace('_', '-')}", dest=name)
    parser.add_argument("--workdir")
    parser.add_argument("--resume", action="store_true")
    try:
        return parser.parse_known_args(args)[0]
    except argparse.ArgumentError:  # a flag without its value, which tyro explains below
        return parser.parse_args([])


def _resumed_run(first: argparse.Namespace) -> RunConfig:
    if first.workdir is None:
        raise InputError("--resume needs --workdir, the directory of the run to go on with")
    _check_names(first)
    return WorkDir(Path(first.workdir).expanduser().absolute()).read_config()


def _default_run(first: argparse.Namespace) -> RunConfig:
    _check_names(first)
    variant, dataset, augment = first.variant, first.dataset, first.augment
    if first.preset is not None:
        preset = PRESETS[first.preset]
        variant, dataset = variant or preset.variant, dataset or preset.dataset
        augment = augment or preset.augment
    network = VARIANTS[variant] if variant else None
    run = default_run(dataset or DataConfig.dataset, first.data_dir, network, augment)
    if first.blocks is not None:  # they take the place of the depth
        run = dataclasses.replace(run, network=dataclasses.replace(run.network, depth=None))
    return run


def _check_names(first: argparse.Namespace) -> None:
    check_name("variant", first.variant, VARIANTS)
    check_name("preset", first.preset, PRESETS)
