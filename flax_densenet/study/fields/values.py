"""Values of a field: how they are read, used and chosen between."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.sample import Sample
from flax_densenet.study.catalog import FIELD_STUDIES

_TRUTH = {"true": True, "false": False}
# Each fixes the network's depth in its own way.
_EXCLUDES = {"depth": "blocks", "blocks": "depth"}


def parse_values(field: str, text: str) -> tuple[Any, ...]:
    """Reads `--values`.

    Args:
      field: Key of `FIELD_STUDIES`.
      text: Values with commas between them; a block's layers with "-", as in "6-12-24".

    Raises:
      InputError: A word is no value of this field's type.
    """
    example = FIELD_STUDIES[field].values[0]
    return tuple(_parse(field, word.strip(), example) for word in text.split(","))


def _parse(field: str, word: str, example: Any) -> Any:
    try:
        match example:
            case bool():
                return _TRUTH[word.lower()]
            case tuple():
                return tuple(int(size) for size in word.split("-"))
            case _:
                return type(example)(word)
    except (ValueError, KeyError) as error:
        wanted = ",".join(value_text(value) for value in FIELD_STUDIES[field].values)
        raise InputError(
            f"--values of {field} has {word!r}; wanted values as in --values {wanted}"
        ) from error


def check_values(field: str, values: Sequence[Any]) -> None:
    """Checks that there are values, and none of them twice.

    Raises:
      InputError: There are none, or one of them is there twice.
    """
    twice = sorted({value_text(value) for value in values if list(values).count(value) > 1})
    if twice:
        raise InputError(f"values of {field} has {', '.join(twice)} more than once; leave one out")
    if not values:
        raise InputError(f"values of {field} is empty; give at least one")


def value_text(value: Any) -> str:
    """Returns a value as `--values` takes it."""
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def with_value(network: DenseNetConfig, field: str, value: Any) -> DenseNetConfig:
    """Returns the network with another value of a field, and everything that depends on it.

    Args:
      network: The network.
      field: Key of `FIELD_STUDIES`.
      value: The value.

    Raises:
      InputError: There is no such network.
    """
    changes = {field: value}
    if field in _EXCLUDES:
        changes[_EXCLUDES[field]] = None
    return dataclasses.replace(network, **changes)


RULE = (
    "the smallest network (fewest parameters) whose mean error is within one standard error of the "
    "smallest mean error; of several equally large ones, that with the smallest mean error"
)


class Candidate(NamedTuple):
    """A value that can be recommended.

    Attributes:
      parameters: Trainable parameters of its network.
      error: Errors of its runs, as shares.
    """

    parameters: int
    error: Sample


class Decision(NamedTuple):
    """Result of the rule.

    Attributes:
      best: Index of the candidate with the smallest mean error.
      limit: Largest mean error that counts as equally good.
      chosen: Index of the recommended candidate.
    """

    best: int
    limit: float
    chosen: int


def decide(candidates: Sequence[Candidate]) -> Decision:
    """Applies the rule of one standard error.

    Source: Breiman et al., "Classification and Regression Trees" (1984), section 3.4.3. Here the
    standard error is over seeds.

    Args:
      candidates: At least one.
    """
    numbers = range(len(candidates))
    best = min(numbers, key=lambda n: candidates[n].error.mean)
    limit = candidates[best].error.mean + candidates[best].error.standard_error
    good = [n for n in numbers if candidates[n].error.mean <= limit]
    chosen = min(good, key=lambda n: (candidates[n].parameters, candidates[n].error.mean))
    return Decision(best, limit, chosen)
