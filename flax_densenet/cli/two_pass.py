"""The flags that all commands that train have: one per field of the run's configuration."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from flax_densenet.cli.flags import (
    NetworkArguments,
    check_name,
    comma_separated_registry,
    network_arguments,
)
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.variants import VARIANTS
from flax_densenet.training.config import DataConfig, OptimizationConfig, RunConfig
from flax_densenet.training.recipes import PRESETS, default_run


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


Arguments = TypeVar("Arguments", bound=RunArguments)
_DECIDING = (
    "dataset data_dir augment variant preset blocks depth workdir init_from weight_set"
).split()


def parse_run_arguments(
    arguments_class: type[Arguments],
    args: Sequence[str],
    prog: str,
    *,
    default: RunConfig | None = None,
    **own: Any,
) -> Arguments:
    """Parses the command line of a command that trains.

    Some flags decide the defaults of the others: the data set its recipe, classes and channels;
    a variant or preset the network. They are read first.

    Args:
      arguments_class: The command's flags.
      args: Words after the command.
      prog: Name of the command, for messages.
      default: Defaults of all flags, instead of those that the flags decide.
      own: Defaults of the command's own groups of flags.

    Raises:
      InputError: A default cannot be determined, such as that of an unknown data set.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    run = default or implied_run(read_first(args))
    return tyro.cli(
        arguments_class,
        args=args,
        default=arguments_class(
            network=network_arguments(run.network),
            data=run.data,
            optimization=run.optimization,
            **own,
        ),
        prog=prog,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes,),
        registry=comma_separated_registry(),
    )


def read_first(args: Sequence[str]) -> argparse.Namespace:
    """Returns the flags that decide the defaults of others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in _DECIDING:
        parser.add_argument(f"--{name}", f"--{name.replace('_', '-')}", dest=name)
    parser.add_argument("--resume", action="store_true")
    try:
        return parser.parse_known_args(args)[0]
    except argparse.ArgumentError:  # a flag without its value, which tyro explains
        return parser.parse_args([])


def implied_run(
    first: argparse.Namespace,
    network: DenseNetConfig | None = None,
    make_run: Callable[..., RunConfig] = default_run,
) -> RunConfig:
    """Returns the run that flags imply.

    Args:
      first: What `read_first` returns.
      network: The network, if it is not for the flags to say.
      make_run: `default_run`, or a command's own that takes the same.

    Raises:
      InputError: A name is in none of the tables.
    """
    check_names(first)
    dataset, augment, variant = first.dataset, first.augment, named_variant(first)
    if first.preset is not None:
        preset = PRESETS[first.preset]
        dataset, augment = dataset or preset.dataset, augment or preset.augment
    if network is None and variant is not None:
        network = VARIANTS[variant]
    run = make_run(dataset or DataConfig.dataset, first.data_dir, network, augment)
    if first.blocks is not None:  # they take the place of the depth
        run = dataclasses.replace(run, network=dataclasses.replace(run.network, depth=None))
    return run


def named_variant(first: argparse.Namespace) -> str | None:
    """Returns the network that flags name, by itself or by a preset."""
    check_names(first)
    if first.variant is None and first.preset is not None:
        return PRESETS[first.preset].variant
    return first.variant


def check_names(first: argparse.Namespace) -> None:
    """Checks names that must stand in a table.

    Raises:
      InputError: One does not.
    """
    check_name("variant", first.variant, VARIANTS)
    check_name("preset", first.preset, PRESETS)
