"""Flags with several values, written with commas: `--blocks 6,12,24`."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, Literal, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

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
