"""Flags with several numbers, written with commas: `--blocks 6,12,24`."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

_NUMBERS: dict[Any, tuple[str, Callable[[str], float]]] = {
    int: ("INT", int),
    float: ("FLOAT", lambda word: float(Fraction(word))),
}


def comma_separated_registry() -> ConstructorRegistry:
    """Returns tyro's rule for tuples of numbers; fractions such as 1/3 are numbers, too."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def comma_separated(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        # tyro takes a default of two numbers for tuple[float, float].
        entries = set(get_args(info.type)) - {Ellipsis}
        if get_origin(info.type) is not tuple or len(entries) != 1 or not entries <= set(_NUMBERS):
            return None
        metavar, number = _NUMBERS[entries.pop()]
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=f"{metavar},{metavar},...",
            instance_from_str=lambda words: tuple(number(word) for word in words[0].split(",")),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join(str(entry) for entry in value)],
        )

    return registry
