"""Flags with several numbers, written with commas: `--blocks 6,12,24`."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

_NUMBERS: dict[Any, tuple[str, Callable[[str], float]]] = {
    tuple[int, ...]: ("INT", int),
    tuple[float, ...]: ("FLOAT", lambda word: float(Fraction(word))),
}


def comma_separated_registry() -> ConstructorRegistry:
    """Returns tyro's rule for tuples of numbers; fractions such as 1/3 are numbers, too."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def comma_separated(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if info.type not in _NUMBERS:
            return None
        metavar, number = _NUMBERS[info.type]
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=f"{metavar},{metavar},...",
            instance_from_str=lambda words: tuple(number(word) for word in words[0].split(",")),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join(str(entry) for entry in value)],
        )

    return registry
