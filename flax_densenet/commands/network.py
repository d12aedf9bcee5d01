"""`NAME|flags`: the network that a command is about."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeVar

import tyro

from flax_densenet.commands.comma_separated import comma_separated_registry
from flax_densenet.config import ComputeType, DenseNetConfig
from flax_densenet.errors import InputError
from flax_densenet.variants import VARIANTS

_DEFAULT = DenseNetConfig()


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkArguments(DenseNetConfig):
    """The network."""

    # "dtype" is the word of Python code, "precision" that of command lines.
    dtype: Annotated[ComputeType, tyro.conf.arg(name="precision")] = "float32"

    @property
    def config(self) -> DenseNetConfig:
        """The same without the command line."""
        return DenseNetConfig(**_fields(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class UntypedNetworkArguments(NetworkArguments):
    """The network, whatever type the command computes in."""

    dtype: tyro.conf.Suppress[ComputeType] = "float32"


def network_arguments(config: DenseNetConfig) -> NetworkArguments:
    """Returns the flags that describe a network, as defaults for others."""
    return NetworkArguments(**_fields(config))


NetworkName = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")]


class _HasNetwork(Protocol):
    @property
    def name(self) -> str | None: ...
    @property
    def network(self) -> NetworkArguments: ...


Arguments = TypeVar("Arguments", bound=_HasNetwork)


def parse_with_network(
    kind: Callable[..., Arguments],
    args: Sequence[str],
    prog: str,
    *,
    flags: type[NetworkArguments] = NetworkArguments,
    otherwise: DenseNetConfig = _DEFAULT,
) -> Arguments:
    """Parses the command line of a command that is about one network.

    The name decides the defaults of the other flags, so that it is read first.

    Args:
      kind: Dataclass with `name: NetworkName = None`, `network: NetworkArguments` and other fields,
        which have defaults.
      args: Words after the command.
      prog: Name of the command, for messages.
      flags: The class of the network's flags.
      otherwise: The network if neither a name nor flags are given.

    Raises:
      InputError: There is no network of this name, or it comes after a flag.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    name = args[0] if args and not args[0].startswith("-") else None
    check_name("NAME", name, VARIANTS)
    config = VARIANTS[name] if name else otherwise
    if any(word.partition("=")[0] == "--blocks" for word in args):
        config = dataclasses.replace(config, depth=None)  # they take the place of the depth
    default = kind(name=name, network=flags(**_fields(config)))
    arguments = tyro.cli(
        type(default),
        args=args,
        default=default,
        prog=prog,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes,),
        registry=comma_separated_registry(),
    )
    if (late := arguments.name) != name:
        raise InputError(f"{late!r} must come before all flags: {prog} {late} --FLAG ...")
    return arguments


def check_name(flag: str, name: str | None, table: Mapping[str, object]) -> None:
    """Checks a name that must stand in a table.

    Args:
      flag: Where the name was given.
      name: The name; None if there is none to check.
      table: Everything that it may be.

    Raises:
      InputError: The table does not have it; the nearest name is in the message.
    """
    if name is None or name in table:
        return
    near = difflib.get_close_matches(name, table, n=1)
    hint = f"perhaps you meant {near[0]}; " if near else ""
    raise InputError(f"{flag} (={name!r}) must be one of the following; {hint}{', '.join(table)}")


def _fields(config: DenseNetConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
