"""Command lines whose defaults depend on their own flags: they are read twice.

`--variant densenet121` changes the growth rate that a network has if `--growth_rate` is not given,
`--dataset` changes the recipe, and `--resume` changes everything. So the first pass looks up the
flags that decide (`given`), each where it is used and by its name alone. They lead to a whole
configuration: `implied_run` returns a `RunConfig`, `find_network` a `DenseNetConfig`. In the second
pass tyro parses every flag, with this configuration as the default, and makes the final one: a flag
is a field of the configuration, and nothing is copied in between. Mistakes are left to the second
pass: to the first, a flag that lacks its value was not given.
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import tyro

from flax_densenet.cli.flags import check_name, parse_flags
from flax_densenet.data.dataset import check_scale
from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.variants import VARIANTS
from flax_densenet.training.config import DataConfig, FineTuningConfig, RunConfig
from flax_densenet.training.recipes import PRESETS, default_run


def given(args: Sequence[str], flag: str) -> str | None:
    """Returns the value of a flag, before the command line is parsed.

    Args:
      args: Words after the command.
      flag: The flag's name, without its dashes.

    Returns:
      The word after it; None if the flag is not there, or is the last word.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(f"--{flag}", f"--{flag.replace('_', '-')}", dest="value")
    try:
        return parser.parse_known_args(args)[0].value
    except argparse.ArgumentError:  # it lacks its value, which tyro explains
        return None


# A command that trains, and from initial weights only, has no flags for other weights.
@dataclasses.dataclass(frozen=True, kw_only=True)
class _InitialRunFlags(RunConfig):
    fine_tuning: tyro.conf.Suppress[FineTuningConfig] = FineTuningConfig()


FROM_INITIAL_WEIGHTS: Mapping[type, type] = {RunConfig: _InitialRunFlags}


def implied_run(
    args: Sequence[str],
    network: DenseNetConfig | None = None,
    make_run: Callable[..., RunConfig] = default_run,
) -> RunConfig:
    """Returns the run that data set, augmentation, variant, preset and blocks imply.

    Args:
      args: Words after the command.
      network: The network, if it is not for the flags to say.
      make_run: `default_run`, or a command's own that takes the same.

    Raises:
      InputError: A name is in none of the tables, or pixels are meant to be 0 to 1.
    """
    check_scale(_numbers(given(args, "mean")), _numbers(given(args, "std")))
    dataset, augment, variant = given(args, "dataset"), given(args, "augment"), named_variant(args)
    if (name := given(args, "preset")) is not None:
        dataset, augment = dataset or PRESETS[name].dataset, augment or PRESETS[name].augment
    if network is None and variant is not None:
        network = VARIANTS[variant]
    run = make_run(dataset or DataConfig.dataset, given(args, "data_dir"), network, augment)
    return dataclasses.replace(run, network=_without_depth(run.network, args))


def _numbers(words: str | None) -> tuple[float, ...] | None:
    """Returns the numbers of a flag; None if it is not given or, what tyro explains, is wrong."""
    try:
        return None if words is None else tuple(float(word) for word in words.split(","))
    except ValueError:
        return None


def named_variant(args: Sequence[str]) -> str | None:
    """Returns the network that --variant names, or else --preset.

    Raises:
      InputError: A name is in none of the tables.
    """
    variant, preset = given(args, "variant"), given(args, "preset")
    check_name("variant", variant, VARIANTS)
    check_name("preset", preset, PRESETS)
    if variant is None and preset is not None:
        return PRESETS[preset].variant
    return variant


def named_network(name: str) -> DenseNetConfig:
    """Returns the network of a name.

    Raises:
      InputError: There is none.
    """
    check_name("NAME", name, VARIANTS)
    return VARIANTS[name]


def find_network(name: str) -> DenseNetConfig:
    """Returns the network of a name or in a checkpoint.

    Args:
      name: Key of `VARIANTS`, or whatever `flax-densenet convert` reads.

    Raises:
      InputError: There is no such network, or the checkpoint cannot be read.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    from flax_densenet.weights.published.find import is_name

    if not Path(name).expanduser().exists() and not is_name(name):
        return named_network(name)
    from flax_densenet.weights.load import load_checkpoint  # JAX

    return load_checkpoint(name).config


class _HasNetwork(Protocol):
    @property
    def name(self) -> str | None: ...
    @property
    def network(self) -> DenseNetConfig: ...


_NetworkT = TypeVar("_NetworkT", bound=_HasNetwork)


def parse_with_network(
    kind: Callable[..., _NetworkT],
    args: Sequence[str],
    prog: str,
    *,
    otherwise: DenseNetConfig | None = None,
    find: Callable[[str], DenseNetConfig] = named_network,
    spelled: Mapping[type, type] = {},
) -> _NetworkT:
    """Parses the command line of a command about one network, whose name is the first word.

    Args:
      kind: Dataclass with a positional `name`, `network: DenseNetConfig` and other fields, which
        have defaults.
      args: Words after the command.
      prog: Name of the command, for messages.
      otherwise: The network if there is no name; `DenseNetConfig()` if not given.
      find: Finds the network of a name.
      spelled: As for `parse_flags`.

    Raises:
      InputError: There is no network of this name, or it comes after a flag.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    name = args[0] if args and not args[0].startswith("-") else None
    network = find(name) if name else otherwise or DenseNetConfig()
    default = kind(name=name, network=_without_depth(network, args))
    arguments = parse_flags(type(default), args, prog, default=default, spelled=spelled, pairs=True)
    if (late := arguments.name) != name:
        raise InputError(f"{late!r} must come before all flags: {prog} {late} --FLAG ...")
    return arguments


def _without_depth(network: DenseNetConfig, args: Sequence[str]) -> DenseNetConfig:
    """Returns the network without its depth if --blocks, which takes its place, is given."""
    is_given = given(args, "blocks") is not None
    return dataclasses.replace(network, depth=None) if is_given else network
