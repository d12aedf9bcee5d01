"""Flags shared by several commands."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Annotated, Any, Literal, Protocol, TypeVar, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from flax_densenet.data.images.crop import Interpolation
from flax_densenet.errors import InputError, require
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.fields import ComputeType
from flax_densenet.network.variants import VARIANTS

_NUMBERS: dict[Any, tuple[str, Callable[[str], float]]] = {
    int: ("INT,INT,...", int),
    float: ("FLOAT,FLOAT,...", lambda word: float(Fraction(word))),
}


def comma_separated_registry() -> ConstructorRegistry:
    """Returns tyro's rule for tuples of numbers or of given words.

    Fractions such as 1/3 are numbers, too.
    """
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def comma_separated(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        # tyro takes a default of two numbers for tuple[float, float].
        entries = set(get_args(info.type)) - {Ellipsis}
        if get_origin(info.type) is not tuple or len(entries) != 1:
            return None
        (entry,) = entries
        read: Callable[[str], Any]
        if get_origin(entry) is Literal:
            metavar, read = f"{'|'.join(get_args(entry))},...", partial(_choose, get_args(entry))
        elif entry in _NUMBERS:
            metavar, read = _NUMBERS[entry]
        else:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda words: tuple(read(word) for word in words[0].split(",")),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join(str(entry) for entry in value)],
        )

    return registry


def _choose(choices: tuple[str, ...], word: str) -> str:
    if word not in choices:
        raise ValueError(f"{word!r} is none of {', '.join(choices)}")
    return word


_ArgumentsT = TypeVar("_ArgumentsT")


def parse_flags(kind: type[_ArgumentsT], args: Sequence[str], prog: str) -> _ArgumentsT:
    """Parses the command line of a command whose flags are the fields of one class.

    Args:
      kind: The class.
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: The class refuses a value.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    return tyro.cli(
        kind,
        args=args,
        prog=prog,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        registry=comma_separated_registry(),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How images are prepared, and what classes are called; the checkpoint's if not given.

    Attributes:
      image_size: Height and width in pixels of what the network sees.
      shorter_side: Length in pixels of the shorter side after resizing, before the middle is cut
        out. With image_size alone it keeps its ratio to that.
      interpolation: How images are resized; pixels are averaged in shrinking.
      mean: Mean of each channel that is subtracted, in 0 to 255.
      std: Standard deviation of each channel that is divided by, in 0 to 255.
      class_names: File with the name of each class, one a line or a JSON list.
    """

    image_size: int | None = None
    shorter_side: int | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: str | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "shorter_side"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")


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


_NetworkT = TypeVar("_NetworkT", bound=_HasNetwork)


def parse_with_network(
    kind: Callable[..., _NetworkT],
    args: Sequence[str],
    prog: str,
    *,
    flags: type[NetworkArguments] = NetworkArguments,
    otherwise: DenseNetConfig = _DEFAULT,
) -> _NetworkT:
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
