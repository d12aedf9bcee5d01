"""Parts of a network: which parameters are trained, and how fast."""

import math
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from flax import traverse_util

from flax_densenet.errors import InputError, nearest
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import ArrayPath
from flax_densenet.training.config import FineTuningConfig
from flax_densenet.weights.table import Row, correspondence


class ParameterParts(NamedTuple):
    """The parameters of a network, each by the name that PyTorch gives it.

    Attributes:
      frozen: Those that are not trained.
      factors: What the learning rate of each of the others is multiplied by.
    """

    frozen: frozenset[str]
    factors: dict[str, float]


def find_parts(config: DenseNetConfig, fine_tuning: FineTuningConfig) -> ParameterParts:
    """Returns what a configuration says of each parameter.

    Args:
      config: The network.
      fine_tuning: What is frozen, and the factors.

    Raises:
      InputError: An entry fits no parameter, freezes all, or has no effect.
    """
    names = [row.key for row in _parameters(config)]
    frozen: set[str] = set()
    for part in fine_tuning.frozen_parts:
        frozen |= _matching("freeze", part, names)
    if len(frozen) == len(names):
        raise InputError(
            f"freeze (={fine_tuning.freeze!r}) leaves nothing to train: it fits all "
            f"{len(names)} parameters; their names are {_examples(names)}"
        )
    factors = {name: 1.0 for name in names if name not in frozen}
    decided_by: dict[str, int] = {}
    for number, (part, factor) in enumerate(fine_tuning.factors):
        trained = _matching("learning_rate_factors", part, names) - frozen
        factors |= dict.fromkeys(trained, factor)
        decided_by |= dict.fromkeys(trained, number)
    for number, (part, factor) in enumerate(fine_tuning.factors):
        if number not in decided_by.values():
            raise InputError(
                f"{part}={factor:g} in learning_rate_factors has no effect: all that it fits is "
                "frozen, or fits an entry after it; put the entry for the smaller part last"
            )
    return ParameterParts(frozenset(frozen), factors)


def frozen_paths(config: DenseNetConfig, parts: ParameterParts) -> frozenset[ArrayPath]:
    """Returns the paths of the frozen parameters in the Flax parameters."""
    return frozenset(row.flax_path[1:] for row in _parameters(config) if row.key in parts.frozen)


def factor_tree(config: DenseNetConfig, parts: ParameterParts) -> dict[str, Any] | None:
    """Returns the factors as a tree like the trained Flax parameters; None if all are 1."""
    if set(parts.factors.values()) == {1.0}:
        return None
    rows = [row for row in _parameters(config) if row.key in parts.factors]
    return traverse_util.unflatten_dict({row.flax_path[1:]: parts.factors[row.key] for row in rows})


def parameter_counts(config: DenseNetConfig, fine_tuning: FineTuningConfig) -> dict[str, int]:
    """Returns how many parameters a network has, and how many of them are trained.

    Raises:
      InputError: As `find_parts`.
    """
    parts = find_parts(config, fine_tuning)
    sizes = {row.key: math.prod(row.shape) for row in _parameters(config)}
    return {
        "parameters": sum(sizes.values()),
        "trained_parameters": sum(sizes[name] for name in parts.factors),
    }


def split_params(params: Any, frozen: Collection[ArrayPath]) -> tuple[Any, Any]:
    """Returns the parameters that are trained, and those that are not, each as nested dicts.

    Args:
      params: All of them.
      frozen: Paths of those that are not.
    """
    if not frozen:
        return params, {}
    flat = traverse_util.flatten_dict(params)
    trained = {path: array for path, array in flat.items() if path not in frozen}
    rest = {path: array for path, array in flat.items() if path in frozen}
    return traverse_util.unflatten_dict(trained), traverse_util.unflatten_dict(rest)


def join_params(trained: Any, rest: Any) -> Any:
    """Returns what `split_params` has split."""
    if not rest:
        return trained
    return traverse_util.unflatten_dict(
        traverse_util.flatten_dict(trained) | traverse_util.flatten_dict(rest)
    )


def _parameters(config: DenseNetConfig) -> list[Row]:
    return [row for row in correspondence(config) if row.leaf.collection == "params"]


def _matching(flag: str, part: str, names: Sequence[str]) -> set[str]:
    found = {name for name in names if any(fnmatchcase(run, part) for run in _runs(name))}
    if found:
        return found
    words = dict.fromkeys(word for name in names for word in name.split("."))
    raise InputError(
        f"{part!r} in {flag} fits no parameter of the network{nearest(part, words)}; names are "
        f"{_examples(names)}"
    )


def _runs(name: str) -> list[str]:
    """Returns all that stands between two dots, the ends of the name being dots, too."""
    words = name.split(".")
    return [
        ".".join(words[start:end])
        for start in range(len(words))
        for end in range(start + 1, len(words) + 1)
    ]


def _examples(names: Sequence[str]) -> str:
    places = (0, len(names) // 3, 2 * len(names) // 3, len(names) - 1)
    return f"{', '.join(names[place] for place in places)} and the like"
