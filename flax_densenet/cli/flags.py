"""Flags from dataclasses: how they are parsed, and those that several commands share.

Every field of a command's dataclass is a flag. The configurations of the library (`DenseNetConfig`,
`RunConfig` and their parts) are parsed as they are. Where a flag is spelled otherwise than its
field, a subclass says so, and `parse_flags` takes the flags from it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

from flax_densenet.data.dataset import check_scale
from flax_densenet.data.images.crop import Interpolation
from flax_densenet.data.images.wide_pixels import PixelRange, check_pixel_range
from flax_densenet.errors import InputError, nearest, require
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.fields import ComputeType

_ArgumentsT = TypeVar("_ArgumentsT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkFlags(DenseNetConfig):
    """The network."""

    # "dtype" is the word of Python code, "precision" that of command lines.
    dtype: Annotated[ComputeType, tyro.conf.arg(name="precision")] = "float32"


def parse_flags(
    kind: type[_ArgumentsT],
    args: Sequence[str],
    prog: str,
    *,
    default: _ArgumentsT | None = None,
    spelled: Mapping[type, type] = {},
    pairs: bool = False,
) -> _ArgumentsT:
    """Parses the command line of a command whose flags are the fields of one class.

    Args:
      kind: The class.
      args: Words after the command.
      prog: Name of the command, for messages.
      default: Defaults of the flags, instead of those of the class.
      spelled: For classes of fields, the subclasses that spell their flags otherwise, besides
        `NetworkFlags`. The fields keep their own classes.
      pairs: Whether a flag that is off has the spelling --no_FLAG, too. It is needed where the
        defaults are not always the same.

    Returns:
      An instance of the class.

    Raises:
      InputError: The class refuses a value.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    single = () if pairs else (tyro.conf.FlagCreatePairsOff,)
    return tyro.cli(
        kind,
        args=args,
        prog=prog,
        default=cast(Any, default),  # None is none
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes, *single),
        registry=_rules({DenseNetConfig: NetworkFlags, **spelled}),
    )


def _rules(spelled: Mapping[type, type]) -> ConstructorRegistry:
    """Returns what tyro does not know: the spelling of flags, and tuples with commas."""
    registry = ConstructorRegistry()

    @registry.struct_rule
    def as_spelled(info: StructTypeInfo) -> StructConstructorSpec | None:
        if info.type not in spelled:
            return None
        fields = dataclasses.replace(info, type=spelled[info.type])
        spec = cast(StructConstructorSpec, ConstructorRegistry.get_struct_spec(fields))
        return dataclasses.replace(spec, instantiate=info.type)

    registry.primitive_rule(_comma_separated)
    return registry


_NUMBERS: dict[Any, tuple[str, Callable[[str], float]]] = {
    int: ("INT,INT,...", int),
    float: ("FLOAT,FLOAT,...", lambda word: float(Fraction(word))),  # 1/3 is a number, too
}


def _comma_separated(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Reads tuples of numbers or of given words."""
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


def _choose(choices: tuple[str, ...], word: str) -> str:
    if word not in choices:
        raise ValueError(f"{word!r} is none of {', '.join(choices)}")
    return word


def check_name(flag: str, name: str | None, table: Mapping[str, object]) -> None:
    """Checks that a name is in a table.

    Args:
      flag: Where the name was given.
      name: The name; None if there is none to check.
      table: Everything that it may be.

    Raises:
      InputError: The table does not have it; the nearest name is in the message.
    """
    if name is not None and name not in table:
        raise InputError(
            f"{flag} (={name!r}) must be one of the following{nearest(name, table)}; "
            f"{', '.join(table)}"
        )


def check_size(size: tuple[int, ...] | None) -> None:
    """Checks the flag --image_size of a command whose images need not be square.

    Raises:
      InputError: It is neither one number nor two.
    """
    is_size = size is None or (len(size) in (1, 2) and min(size) >= 1)
    require(is_size, "image_size", size, "one number of at least 1, or two: HEIGHT,WIDTH")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsFlags:
    """Which weights are taken, and from where.

    Attributes:
      weight_set: Which set of weights to take, by its place in the file, where there are several.
      offline: Download nothing: use what is on the disk, also in the caches of other software.
    """

    weight_set: str | None = None
    offline: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFlags:
    """How images are prepared, and what classes are called; the checkpoint's if not given.

    Attributes:
      image_size: Height and width in pixels of what the network sees.
      shorter_side: Length in pixels of the shorter side after resizing, before the middle is cut
        out. With image_size alone it keeps its ratio to that.
      interpolation: How images are resized; pixels are averaged in shrinking.
      mean: Mean of each channel that is subtracted, in 0 to 255.
      std: Standard deviation of each channel that is divided by, in 0 to 255.
      pixel_range: Values LOW,HIGH that become black and white in files with gray pixels of more
        than 8 bits; usually 0,65535 for integers and 0,255 for floating-point numbers.
      class_names: File with the name of each class, one a line or a JSON list.
    """

    image_size: int | None = None
    shorter_side: int | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    pixel_range: PixelRange | None = None
    class_names: str | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "shorter_side"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")
        check_scale(self.mean, self.std)
        check_pixel_range(self.pixel_range)
